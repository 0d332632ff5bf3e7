package parttable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// TestMBR: what Linux makes of entries that no tool would write.
func TestMBR(t *testing.T) {
	const sectors = 100
	tests := []struct {
		name string
		make func(testDisk)
		want string
	}{
		{"nothing", func(testDisk) {}, ""},
		{"no entries", func(d testDisk) { d.mbr(0) }, ""},
		{"no signature", func(d testDisk) { d.mbr(0, [4]uint32{0, 0x83, 1, 9}); d[511] = 0 }, ""},
		{"plain", func(d testDisk) { d.mbr(0, [4]uint32{0x80, 0x83, 1, 9}, [4]uint32{0, 7, 10, 20}) }, "mbr 1:1+9 2:10+20"},
		{"type 0 with a size", func(d testDisk) { d.mbr(0, [4]uint32{0, 0, 1, 9}) }, "mbr 1:1+9"},
		{"gap", func(d testDisk) { d.mbr(0, [4]uint32{}, [4]uint32{}, [4]uint32{0, 7, 10, 20}) }, "mbr 3:10+20"},
		{"no size", func(d testDisk) { d.mbr(0, [4]uint32{0, 0x83, 1, 0}, [4]uint32{0, 7, 10, 20}) }, "mbr 2:10+20"},
		{"all of the disk", func(d testDisk) { d.mbr(0, [4]uint32{0x80, 0x17, 0, sectors}) }, "mbr 1:0+100"},
		{"overlapping", func(d testDisk) { d.mbr(0, [4]uint32{0, 0x83, 1, 50}, [4]uint32{0, 0x83, 20, 10}) }, "mbr 1:1+50 2:20+10"},
		{"past the end", func(d testDisk) {
			d.mbr(0, [4]uint32{0, 0x83, 90, 50}, [4]uint32{0, 0x83, sectors, 10}, [4]uint32{0, 0x83, 1, 0xffffffff})
		}, "mbr 1:90+10 3:1+99"},
		{"code in the first entry", func(d testDisk) { d.mbr(0, [4]uint32{0x20, 0x83, 1, 9}) }, ""},
		{"code in the last entry", func(d testDisk) { d.mbr(0, [4]uint32{0, 0x83, 1, 9}, [4]uint32{}, [4]uint32{}, [4]uint32{1}) }, ""},
		{"protective, but of what", func(d testDisk) { d.mbr(0, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeProtective, 20, 9}) }, ""},
		{"logical", func(d testDisk) {
			d.mbr(0, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtendedLBA, 10, 80})
			d.mbr(10, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 20, 30})
			d.mbr(30, [4]uint32{0, 0x82, 2, 8}, [4]uint32{0, typeExtendedLinux, 50, 30})
			d.mbr(60, [4]uint32{0, 0x83, 1, 90})
		}, "mbr 1:1+9 2:10+2 5:11+9 6:32+8 7:61+39"},
		{"small extended", func(d testDisk) { d.mbr(0, [4]uint32{0, typeExtended, 10, 1}) }, "mbr 1:10+1"},
		{"extended past the end", func(d testDisk) { d.mbr(0, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, sectors, 80}) }, "mbr 1:1+9"},
		{"logical past the end keeps its number", func(d testDisk) {
			d.mbr(0, [4]uint32{0, typeExtended, 10, 80})
			d.mbr(10, [4]uint32{0, 0x83, 200, 9}, [4]uint32{0, typeExtended, 20, 30})
			d.mbr(30, [4]uint32{0, 0x83, 1, 9})
		}, "mbr 1:10+2 6:31+9"},
		{"two extended", func(d testDisk) {
			d.mbr(0, [4]uint32{0, typeExtended, 50, 50}, [4]uint32{0, typeExtended, 10, 30})
			d.mbr(50, [4]uint32{0, 0x83, 1, 9})
			d.mbr(10, [4]uint32{0, 0x83, 1, 9})
		}, "mbr 1:50+2 2:10+2 5:51+9 6:11+9"},
		{"link first", func(d testDisk) {
			d.mbr(0, [4]uint32{0, typeExtended, 10, 80})
			d.mbr(10, [4]uint32{0, typeExtended, 20, 30}, [4]uint32{0, 0x83, 1, 9})
			d.mbr(30, [4]uint32{0, 0x83, 1, 9})
		}, "mbr 1:10+2 5:11+9 6:31+9"},
		{"third and fourth entry", func(d testDisk) {
			d.mbr(0, [4]uint32{0, typeExtended, 10, 40})
			d.mbr(10, [4]uint32{0, 0x83, 1, 9}, [4]uint32{}, [4]uint32{0, 0x83, 10, 20}, [4]uint32{0, 0x83, 30, 20})
		}, "mbr 1:10+2 5:11+9 6:20+20"},
		{"a ring", func(d testDisk) {
			d.mbr(0, [4]uint32{0, typeExtended, 10, 80})
			d.mbr(10, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 20, 30})
			d.mbr(30, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 0, 30})
		}, "mbr 1:10+2 5:11+9 6:31+9"},
		{"its own link", func(d testDisk) {
			d.mbr(0, [4]uint32{0, typeExtended, 10, 80})
			d.mbr(10, [4]uint32{0, typeExtended, 0, 80})
		}, "mbr 1:10+2"},
		{"extended from the beginning", func(d testDisk) { d.mbr(0, [4]uint32{0, typeExtended, 0, 80}, [4]uint32{0, 0x83, 1, 9}) }, "mbr 1:0+2 2:1+9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := make(testDisk, sectors*512)
			tt.make(d)
			if got := numbers(d.read(t)); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestMBREnd: a part of a sector at the end is no sector.
func TestMBREnd(t *testing.T) {
	d := make(testDisk, 10*512+100)
	d.mbr(0, [4]uint32{0, 0x83, 5, 20}, [4]uint32{0, 0x83, 10, 20})
	if got, want := numbers(d.read(t)), "mbr 1:5+5"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestManyLogical: there is no partition 256, and the list has an end.
func TestManyLogical(t *testing.T) {
	const links = 2000
	for name, kind := range map[string]uint32{"full": 0x83, "empty": 0} {
		d := make(testDisk, 2*(links+2)*512)
		d.mbr(0, [4]uint32{0, typeExtended, 1, 2*links + 3})
		for i := range int64(links) {
			d.mbr(1+2*i, [4]uint32{0, kind, 1, kind & 1}, [4]uint32{0, typeExtended, uint32(2*i + 2), 2})
		}
		r := &watcher{ReaderAt: bytes.NewReader(d), size: int64(len(d))}
		table, err := Read(r, int64(len(d)))
		if err != nil || r.reads > maxReads {
			t.Errorf("%s: %d reads, error %v", name, r.reads, err)
		}
		want := 1
		if kind != 0 {
			want += maxNumber - 4
		}
		if n := len(table.Partitions); n != want || kind != 0 && table.Partitions[n-1].Number != maxNumber {
			t.Errorf("%s: %d partitions, want %d", name, n, want)
		}
	}
}

// TestGPT: both sizes of sectors, both places, and what isn't believed.
func TestGPT(t *testing.T) {
	const last = 2*mib/512 - 1
	whole := "gpt 1:100+101 3:300+1"
	parts := []gptPart{{100, 200}, {200, 100}, {300, 300}}
	tests := []struct {
		name   string
		change func(testDisk)
		want   string // or the error
	}{
		{"whole", func(testDisk) {}, whole},
		{"hybrid", func(d testDisk) { d.mbr(0, [4]uint32{0x80, 7, 100, 101}, [4]uint32{0, typeProtective, 1, 99}) }, whole},
		{"no protective MBR", func(d testDisk) { clear(d[:512]) }, ""},
		{"header gone", func(d testDisk) { clear(d[512:1024]) }, whole},
		{"header damaged", func(d testDisk) { d[512+40]++ }, whole},
		{"entries damaged", func(d testDisk) { d[1024+33]++ }, whole},
		{"backup gone", func(d testDisk) { clear(d[last*512:]) }, whole},
		{"all gone", func(d testDisk) { clear(d[512:1024]); clear(d[last*512:]) }, "at byte 512: no GPT header, though the MBR says that there is one"},
		{"both damaged", func(d testDisk) { d[512+40]++; d[(last-32)*512+33]++ }, "at byte 512: the GPT header differs from its checksum; at byte 2080256: the entries of the GPT differ from their checksum in the header at byte 2096640"},
		{"backup damaged, header gone", func(d testDisk) { clear(d[512:1024]); d[last*512+40]++ }, "at byte 2096640: the GPT header differs from its checksum"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := make(testDisk, 2*mib)
			d.gpt(512, parts...)
			tt.change(d)
			checkGPT(t, d, tt.want)
		})
	}
	t.Run("4096", func(t *testing.T) {
		d := make(testDisk, 2*mib)
		d.gpt(4096, gptPart{100, 200}, gptPart{300, 300})
		checkGPT(t, d, "gpt 1:800+808 2:2400+8")
		clear(d[4096:8192])
		checkGPT(t, d, "gpt 1:800+808 2:2400+8")
		clear(d[len(d)-4096:])
		checkGPT(t, d, "no GPT header")
	})
	t.Run("cut off", func(t *testing.T) {
		d := make(testDisk, 2*mib)
		d.gpt(512, parts...)
		checkGPT(t, d[:mib], "aren't those of a disk of 2048")
		checkGPT(t, d[:1000], "no GPT header")
		checkGPT(t, d[:512], "no GPT header")
		checkGPT(t, d[:511], "")
		checkGPT(t, d[:0], "")
	})
}

// TestGPTHeader: each field of a header that is whole, by its checksum, is checked.
func TestGPTHeader(t *testing.T) {
	put32 := func(at int, v uint32) func([]byte) {
		return func(h []byte) { binary.LittleEndian.PutUint32(h[at:], v) }
	}
	put64 := func(at int, v uint64) func([]byte) {
		return func(h []byte) { binary.LittleEndian.PutUint64(h[at:], v) }
	}
	for _, tt := range []struct {
		name   string
		change func([]byte)
		want   string
	}{
		{"size small", put32(12, 91), "header of 91 bytes"},
		{"size large", put32(12, 513), "header of 513 bytes"},
		{"size full", put32(12, 512), ""},
		{"other sector", put64(24, 2), "belongs into sector 2"},
		{"first", put64(40, 4096), "from 4096 to"},
		{"last", put64(48, 4096), "to 4096 that"},
		{"turned round", put64(48, 3), "to 3 that"},
		{"entries negative", put64(72, 1<<63), "begin at sector 9223372036854775808"},
		{"entries past the end", put64(72, 4096), "begin at sector 4096"},
		{"entries reach past the end", put64(72, 4095), "reach past the end"},
		{"no entries", put32(80, 0), "0 GPT entries"},
		{"many entries", put32(80, maxEntries+1), "32769 GPT entries"},
		{"entries past the disk", put32(80, maxEntries), "reach past the end"},
		{"most entries", put32(80, 8000), ""},
		{"few entries", put32(80, 1), ""},
		{"entry size 0", put32(84, 0), "entries of 0 bytes"},
		{"entry size 256", put32(84, 256), "entries of 256 bytes"},
		{"entry size large", put32(84, 1<<31), "entries of 2147483648 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := make(testDisk, 2*mib)
			d.gpt(512, gptPart{100, 200})
			clear(d[len(d)-512:])
			tt.change(d[512:1024])
			d.seal(512, 1)
			if tt.want == "" {
				tt.want = "gpt 1:100+101"
			}
			checkGPT(t, d, tt.want)
		})
	}
}

// TestGPTNumbers: Linux shows 255 partitions of a larger table.
func TestGPTNumbers(t *testing.T) {
	d := make(testDisk, 2*mib)
	d.gpt(512)
	binary.LittleEndian.PutUint32(d[512+80:], 1000)
	for i := range 1000 {
		b := d[1024+128*i:]
		b[0] = 1
		binary.LittleEndian.PutUint64(b[32:], 3000)
		binary.LittleEndian.PutUint64(b[40:], 3000)
	}
	d.seal(512, 1)
	list := d.read(t).Partitions
	if len(list) != maxNumber || list[maxNumber-1].Number != maxNumber {
		t.Errorf("%d partitions", len(list))
	}
}

// TestNames: type and name as they are written elsewhere.
func TestNames(t *testing.T) {
	d := make(testDisk, 2*mib)
	d.gpt(512, gptPart{100, 200})
	b := d[1024:]
	for i := range 16 {
		b[i] = byte(i)
	}
	for i, v := range []uint16{'É', 0x20ac, 0xd83d, 0xde00, 0xd800, '/', 0, 'x'} {
		binary.LittleEndian.PutUint16(b[56+2*i:], v)
	}
	d.seal(512, 1)
	want := Table{Scheme: GPT, Partitions: []Partition{
		{Number: 1, Off: 51200, Size: 51712, Type: "03020100-0504-0706-0809-0a0b0c0d0e0f", Name: "É€😀\uFFFD/"},
	}}
	if diff := cmp.Diff(want, d.read(t)); diff != "" {
		t.Error(diff)
	}
}

// TestReadErrors: an error of the reader is no damage.
func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	d := make(testDisk, 2*mib)
	d.gpt(512, gptPart{100, 200})
	d.mbr(0, [4]uint32{0, typeProtective, 1, 0xffffffff})
	for at := range 3 {
		r := &watcher{ReaderAt: bytes.NewReader(d), size: int64(len(d)), failAt: at + 1, err: broken}
		if _, err := Read(r, int64(len(d))); !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
			t.Errorf("read %d: %v", at, err)
		}
	}
	for _, r := range []io.ReaderAt{bytes.NewReader(d[:100]), bytes.NewReader(nil)} {
		if _, err := Read(r, int64(len(d))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("short: %v", err)
		}
	}
	if _, err := Read(errReader{}, 512); !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
}

type errReader struct{}

func (errReader) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }
