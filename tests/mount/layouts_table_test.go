package mount

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/scenario"
)

// Days are what a nightly backup calls its snapshots.
var (
	days      = []string{"2024-05-01", "2024-05-02", "2024-05-03"}
	shortDays = []string{"0101", "0102", "0103"}
)

// A row is a way to name backups that people use, as a folder of its own or a
// repository.
type row struct {
	files tree
	order []string          // in which they were made
	want  []scenario.Expect // images below the row's folder
}

// rows makes the table: `a` and `b` are two images with the same snapshots, which
// must not be mixed.
func rows(t *testing.T) map[string]row {
	t.Helper()
	const one, two = "no-object-map", "objects-64k"
	rows := map[string]row{}
	// add makes a row of two images, whose names and snapshots are in the files' names.
	add := func(name string, images, snapshots []string, raw bool, file func(image string, i int) string) {
		r := row{files: tree{}}
		for k, folder := range []string{one, two}[:len(images)] {
			s := newSeries(t, folder, snapshots...)
			for i := range snapshots {
				data := s.diff(i)
				if i == 0 && raw {
					data = s.raw(0)
				}
				name := file(images[k], i)
				r.files[name], r.order = data, append(r.order, name)
			}
			r.want = append(r.want, s.all(images[k])...)
		}
		rows[name] = r
	}
	vms := []string{"vm-100-disk-0", "vm-100-disk-1"}
	proxmox := []string{"snap-20240501", "snap-20240502", "snap-20240503"}
	add("cron-folders", vms, days, false, func(img string, i int) string { return img + "/" + days[i] + ".diff" })
	add("cron-flat", vms, days, false, func(img string, i int) string { return img + "-" + days[i] + ".diff" })
	add("cron-at", vms, days, false, func(img string, i int) string { return img + "@" + days[i] })
	add("cron-from-to", vms, days, false, func(img string, i int) string {
		if i == 0 {
			return img + "_full_" + days[0] + ".diff"
		}
		return img + "_from_" + days[i-1] + "_to_" + days[i] + ".diff"
	})
	add("proxmox", vms, proxmox, false, func(img string, i int) string { return img + "@" + proxmox[i] + ".diff" })
	add("proxmox-raw", vms, proxmox, true, func(img string, i int) string { return img + "@" + proxmox[i] + []string{".raw", ".diff", ".diff"}[i] })
	// The folder is a date or a snapshot.
	add("day-folders", vms, days, false, func(img string, i int) string { return days[i] + "/" + img + ".diff" })
	add("day-folders-raw", vms, days, true, func(img string, i int) string { return days[i] + "/" + img + []string{".img", ".diff", ".diff"}[i] })
	add("year-month-day", vms, days, false, func(img string, i int) string { return strings.ReplaceAll(days[i], "-", "/") + "/" + img + ".diff" })
	add("pvc-day", []string{"pvc-0d1e", "pvc-77aa"}, days, false, func(img string, i int) string {
		return img + "/" + days[i] + []string{"/full.diff", "/inc.diff", "/inc.diff"}[i]
	})
	add("snapshot-folders", vms, proxmox, false, func(img string, i int) string { return proxmox[i] + "/" + img + ".diff" })
	add("image-snapshot-folders", vms, proxmox, false, func(img string, i int) string { return img + "/" + proxmox[i] + "/export.diff" })
	add("full-and-inc", vms, days, false, func(img string, i int) string {
		return []string{"full/", "incremental/", "incremental/"}[i] + img + "-" + days[i] + ".diff"
	})
	// Raw exports that aren't called so.
	for _, ext := range []string{".full", ".bac", ".bin", ".raw", ".img", ""} {
		add("raw"+ext, []string{"web", "mail"}, shortDays, true, func(img string, i int) string {
			if i == 0 {
				return img + "-" + shortDays[0] + ext
			}
			return img + "-" + shortDays[i] + ".diff"
		})
	}
	stamps := []string{"backup-20240501020000", "backup-20240502020000", "backup-20240503020000"}
	add("backup-timestamp", vms, stamps, true, func(img string, i int) string { return img + "." + stamps[i] })
	// A raw file's base name isn't its snapshot's.
	add("raw-with-image", []string{"db-vol", "db-vol-2"}, days, true, func(img string, i int) string {
		return img + "-" + days[i] + []string{".raw", ".diff", ".diff"}[i]
	})
	add("raw-full-date", vms, days, true, func(img string, i int) string {
		return img + []string{"/full-", "/inc-", "/inc-"}[i] + days[i] + []string{".raw", ".diff", ".diff"}[i]
	})
	add("raw-full-short", vms, shortDays, true, func(img string, i int) string {
		return img + []string{"/full-", "/", "/"}[i] + shortDays[i] + []string{".img", ".diff", ".diff"}[i]
	})
	// Many images in one folder.
	add("many", []string{"d0", "d1"}, shortDays, false, func(img string, i int) string {
		return img + []string{"_0101", "_0101_0102", "_0102_0103"}[i] + ".diff"
	})
	add("many-raw", []string{"d0", "d1"}, shortDays, true, func(img string, i int) string {
		return img + []string{"_0101.raw", "_0101_0102.diff", "_0102_0103.diff"}[i]
	})
	// By the names that tools give.
	add("opennebula", []string{"13/disk.0", "13/disk.1"}, []string{"one_backup_0", "one_backup_1", "one_backup_2"}, false, func(img string, i int) string {
		dir, disk := filepath.Split(img)
		return []string{dir + disk + ".rbd2", dir + "a1b2c3/" + disk + ".1.rbdiff", dir + "d4e5f6/" + disk + ".2.rbdiff"}[i]
	})
	barcSnaps := []string{"barcdaily20240501020000", "barcdaily20240502020000", "barcdaily20240503020000"}
	add("cv4pve", []string{"rbd/vm-100-disk-0", "ssd/vm-100-disk-0"}, barcSnaps, false, func(img string, i int) string {
		return "100/daily/" + strings.TrimPrefix(barcSnaps[i], "barcdaily") + strings.Replace(img, "/", ".", 1) + ".diff"
	})
	return rows
}

// below puts a row into a folder.
func (r row) below(dir string, into tree) (order []string, want []scenario.Expect) {
	for _, name := range r.order {
		into[filepath.Join(dir, name)] = r.files[name]
		order = append(order, filepath.Join(dir, name))
	}
	for _, e := range r.want {
		e.Image = filepath.Join(dir, e.Image)
		want = append(want, e)
	}
	return order, want
}

// TestLayouts serves every way to name backups that was found in use, with no flag:
// all in one repository, where none may disturb the other.
func TestLayouts(t *testing.T) {
	testenv.Need(t, "fuse")
	files, repo := tree{}, t.TempDir()
	var want []scenario.Expect
	var order []string
	for name, r := range rows(t) {
		names, expects := r.below("ways/"+name, files)
		order, want = append(order, names...), append(want, expects...)
	}
	files.write(t, repo, order...)
	m := Start(t, repo)
	checkListing(t, m, byImage(want))
	checkSums(t, m, want)
}

// TestLayoutsAlone serves some of them as a repository of its own, whose top folder
// then has files, days or snapshots in it. Where names have dates, times that
// contradict them change nothing.
func TestLayoutsAlone(t *testing.T) {
	testenv.Need(t, "fuse")
	all := rows(t)
	for _, name := range []string{"cron-flat", "day-folders-raw", "many-raw", "snapshot-folders"} {
		t.Run(name, func(t *testing.T) {
			repo, r := t.TempDir(), all[name]
			if name != "many-raw" {
				slices.Reverse(r.order)
			}
			r.files.write(t, repo, r.order...)
			m := Start(t, repo)
			checkListing(t, m, byImage(r.want))
			checkSums(t, m, r.want)
		})
	}
}

// TestLayoutsPacked packs the exports with what people use, and names them as they
// do.
func TestLayoutsPacked(t *testing.T) {
	testenv.Need(t, "fuse", "packers")
	s := newSeries(t, "no-object-map", days...)
	files, repo := tree{}, t.TempDir()
	var want []scenario.Expect
	for _, p := range []struct{ packer, full, inc string }{
		{"zstd", ".zst", ".diff.zst"}, {"gzip", ".raw.gz", ".diff.gz"}, {"lz4", ".img.lz4", ".lz4"}, {"tar.gz", ".tgz", ".tgz"},
		{"gzip", ".img", ".diff"}, {"bzip2", ".bz2", ".diff.bz2"}, {"xz", ".full.xz", ".xz"},
	} {
		dir := "as" + p.full
		for _, flat := range []string{"", "/flat"} {
			image := dir + "/vm1"
			name := func(i int, ext string) string { return image + "/" + days[i] + ext }
			if flat != "" {
				image = dir + flat + "/web"
				name = func(i int, ext string) string { return image + "-" + days[i] + ext }
			}
			with := packerOf(t, p.packer)
			files[name(0, p.full)] = with.bytes(t, "full.raw", s.raw(0))
			for i := 1; i < len(days); i++ {
				files[name(i, p.inc)] = with.bytes(t, "inc.diff", s.diff(i))
			}
			want = append(want, s.all(image)...)
		}
	}
	files.write(t, repo)
	m := Start(t, repo)
	checkListing(t, m, byImage(want))
	checkSums(t, m, want)
}

// TestLayoutsRefused gives what can't be read: the file is named, with a cure that
// then works as it is printed.
func TestLayoutsRefused(t *testing.T) {
	testenv.Need(t, "fuse", "qemu")
	s := newSeries(t, "no-object-map", days...)
	repo := t.TempDir()
	files := tree{"vm1/" + days[1] + ".diff": s.diff(1), "vm2/" + days[1] + ".diff": s.diff(1), "vm2/" + days[0] + ".diff.zz": []byte("\x78\x9cxx")}
	files.write(t, repo)
	plain := filepath.Join(t.TempDir(), "plain")
	write(t, plain, s.raw(0))
	base := filepath.Join(repo, "vm1", days[0]+".qcow2")
	command(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", plain, base)
	message := cureOf(t, repo, base)
	if zz := cureOf(t, repo, filepath.Join(repo, "vm2", days[0]+".diff.zz")); !strings.Contains(zz, "compressed") {
		t.Errorf("of zlib it says %q", zz)
	}
	_, cure, found := strings.Cut(message, "qemu-img convert ")
	if !strings.Contains(message, "qcow2") || !found {
		t.Fatalf("no cure in %q", message)
	}
	sh := exec.CommandContext(t.Context(), "sh", "-c", "qemu-img convert "+cure)
	sh.Dir = repo
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := Start(t, repo)
	checkSums(t, m, []scenario.Expect{s.expect(0, "vm1", days[0]), s.expect(1, "vm1", days[1])})
	if l, _ := List(t, m.Dir); !slices.Equal(served(l), []string{"vm1@" + days[0], "vm1@" + days[1]}) {
		t.Errorf("served: %v", served(l))
	}
}

// TestLayoutsToHead exports the image itself, not a snapshot, so that nothing but the
// file's name says what it is. In a folder of its image it is served by that name; in a
// folder of many it is served once the user says whose it is.
func TestLayoutsToHead(t *testing.T) {
	testenv.Need(t, "fuse")
	web, mail := newSeries(t, "no-object-map", days[0], "now"), newSeries(t, "objects-64k", days[0], "now")
	repo := t.TempDir()
	tree{
		"vm1/" + days[0] + ".diff": web.diff(0), "vm1/now.diff": web.toHead(1),
		"web-" + days[0] + ".diff": web.diff(0), "mail-" + days[0] + ".diff": mail.diff(0), "tonight.diff": mail.toHead(1),
	}.write(t, repo)
	want := slices.Concat(mail.all("mail")[:1], web.all("vm1"), web.all("web")[:1])
	cured(t, repo, nil, want)
	cured(t, repo, []string{"--link", "tonight.diff=mail@now"}, append(want, mail.expect(1, "mail", "now")))
}

// TestLayoutsOfUser serves names that no rule knows with a regular expression, and
// leaves out what it doesn't match.
func TestLayoutsOfUser(t *testing.T) {
	testenv.Need(t, "fuse")
	files, repo := tree{}, t.TempDir()
	var want []scenario.Expect
	for k, folder := range []string{"no-object-map", "objects-64k"} {
		s := newSeries(t, folder, shortDays...)
		for i := range shortDays {
			data := s.diff(i)
			if i == 0 {
				data = s.raw(0)
			}
			files[fmt.Sprintf("x%s~of~%d", shortDays[i], k)] = data
		}
		want = append(want, s.all(fmt.Sprintf("pool/disk%d", k))...)
	}
	files["notes.bin"] = make([]byte, 4096)
	files.write(t, repo)
	m := Start(t, repo, Options{Flags: []string{
		"--layout-regex", `^x(?P<snap>\d+)~of~(?P<img>\d+)$`, "--layout-image", "pool/disk{img}", "--layout-snap", "{snap}",
	}})
	l, _ := List(t, m.Dir)
	if !slices.Equal(served(l), labels(want)) {
		t.Errorf("served: %v, want %v", served(l), labels(want))
	}
	checkSums(t, m, want)
}
