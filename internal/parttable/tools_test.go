package parttable

import (
	"os"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// scripts are what sfdisk makes disks of 64 MiB of.
func scripts() map[string]string {
	return map[string]string{
		"mbr":           "label: dos\n1M,8M,83,*\n,4M,82\n,,7\n",
		"mbr gap":       "label: dos\nd3 : start=2048, size=8M, type=c\nd1 : start=40960, size=8M, type=ef\n",
		"mbr logical":   "label: dos\n,8M,83\n,,5\n,1M\n,1M,82\n,2M\n,,fd\n",
		"mbr lba":       "label: dos\nd1 : size=8M, type=83\nd4 : size=40M, type=f\nd5 : size=1M\nd6 : size=1M, type=8e\nd2 : type=83\n",
		"mbr linux":     "label: dos\n,30M,85\n,,83\nd5 : size=1M\nd6 : size=10M\n",
		"mbr no gap":    "label: dos\nstart=1,size=100,type=83\nstart=101,size=30000,type=5\nstart=102,size=50,type=83\nstart=153,size=70,type=83\n",
		"gpt":           "label: gpt\nsize=8M,type=U,name=\"EFI system\"\nsize=4M,type=S\ntype=L,name=\"größer ☃ 😀\"\n",
		"gpt gap":       "label: gpt\nd7 : size=8M\nd128 : size=4M, type=R\nd2 : type=V, name=x\n",
		"gpt few":       "label: gpt\ntable-length: 4\n,8M\n,4M\n",
		"gpt many":      "label: gpt\ntable-length: 300\nd300 : size=1M\nd255 : size=1M\nd254 : size=1M\nd1 : size=1M\n",
		"gpt no slack":  "label: gpt\nfirst-lba: 34\nstart=34,size=100\nstart=134,size=1\n",
		"gpt and empty": "label: gpt\n",
		"mbr and empty": "label: dos\n",
	}
}

// TestTools: what sfdisk makes is what sfdisk, partx and parted say.
func TestTools(t *testing.T) {
	testenv.Need(t, "partitions")
	for name, script := range scripts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := newImage(t, 64*mib)
			run(t, script, "sfdisk", "-q", image)
			got := readFile(t, image)
			if len(got.Partitions) == 0 && !strings.Contains(name, "empty") {
				t.Fatal("nothing found")
			}
			compare(t, "sfdisk", got, fromSfdisk(t, image))
			compare(t, "partx", got, fromPartx(t, image))
			if name != "gpt many" { // which parted refuses
				compare(t, "parted", withoutTypes(got), fromParted(t, image))
			}
		})
	}
}

// TestMakers: what parted and sgdisk make, also from each other.
func TestMakers(t *testing.T) {
	testenv.Need(t, "partitions")
	image := newImage(t, 64*mib)
	run(t, "", "parted", "-s", image, "mklabel", "msdos", "mkpart", "primary", "1MiB", "9MiB", "mkpart", "extended", "9MiB", "100%",
		"mkpart", "logical", "10MiB", "20MiB", "mkpart", "logical", "21MiB", "30MiB", "mkpart", "logical", "31MiB", "100%", "rm", "6")
	got := readFile(t, image)
	compare(t, "parted", got, fromSfdisk(t, image))
	if want := "mbr 1:2048+16384 2:18432+2 5:20480+20480 6:63488+67584"; numbers(got) != want {
		t.Errorf("parted: %s\nwant %s", numbers(got), want)
	}

	image = newImage(t, 64*mib)
	run(t, "", "sgdisk", "-n", "1:2048:+8M", "-c", "1:first one", "-n", "5:0:+1M", "-t", "5:8200", "-n", "3:0:0", "-h", "1", image)
	compare(t, "sgdisk with hybrid MBR", readFile(t, image), fromSfdisk(t, image))
	run(t, "", "sgdisk", "-m", "1:3", image) // an MBR of two of them
	got = readFile(t, image)
	compare(t, "sgdisk to MBR", got, fromSfdisk(t, image))
	if got.Scheme != MBR {
		t.Errorf("scheme %s", got.Scheme)
	}
}

// TestDamagedGPT: where sgdisk and partx take the backup, it is taken.
func TestDamagedGPT(t *testing.T) {
	testenv.Need(t, "partitions")
	for name, at := range map[string]int64{"signature": 512, "header": 512 + 56, "entries": 1024 + 40} {
		t.Run(name, func(t *testing.T) {
			image := newImage(t, 64*mib)
			run(t, scripts()["gpt"], "sfdisk", "-q", image)
			want := readFile(t, image)
			change(t, image, at, []byte{0xbd, 0xff})
			compare(t, "whole", readFile(t, image), want)
			compare(t, "partx", readFile(t, image), fromPartx(t, image))
		})
	}
}

// TestResized: an image that grew has its backup elsewhere, which is no matter.
func TestResized(t *testing.T) {
	testenv.Need(t, "partitions")
	image := newImage(t, 64*mib)
	run(t, scripts()["gpt"], "sfdisk", "-q", image)
	want := readFile(t, image)
	if err := os.Truncate(image, 80*mib); err != nil {
		t.Fatal(err)
	}
	compare(t, "grown", readFile(t, image), want)
}

// TestFileSystems: a file system on all of a disk is no partition table, though its
// first sector ends like one.
func TestFileSystems(t *testing.T) {
	for name, fs := range map[string]struct {
		need string
		args []string
	}{
		"ext4":  {"ext4", []string{"mkfs.ext4", "-q", "-F"}},
		"xfs":   {"xfs", []string{"mkfs.xfs", "-q"}},
		"btrfs": {"btrfs", []string{"mkfs.btrfs", "-q"}},
		"fat12": {"fat", []string{"mkfs.fat", "-I", "-F", "12", "-s", "128", "-S", "4096"}},
		"fat16": {"fat", []string{"mkfs.fat", "-I", "-F", "16"}},
		"fat32": {"fat", []string{"mkfs.fat", "-I", "-F", "32"}},
		"ntfs":  {"ntfs", []string{"mkfs.ntfs", "-q", "-F", "-f", "-s", "512", "-p", "0", "-H", "16", "-S", "63"}},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.Need(t, fs.need)
			t.Parallel()
			image := newImage(t, 512*mib)
			run(t, "", fs.args[0], append(fs.args[1:], image)...)
			if table := readFile(t, image); table.Scheme != "" {
				t.Errorf("%+v", table)
			}
			// As a boot loader installed into the file system leaves it.
			change(t, image, 510, []byte{0x55, 0xaa})
			if table := readFile(t, image); table.Scheme != "" {
				t.Errorf("with a boot loader: %+v", table)
			}
		})
	}
}
