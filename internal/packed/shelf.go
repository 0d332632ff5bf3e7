package packed

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"time"
)

// A shelf is the chunks of one compressed file, in two files: zstd frames one after
// the other, and a list of where they are, so that a shelf of many GiB is read as
// quickly as any. Both are only ever appended to, the list after the frame. What a
// crash leaves of an entry ends the list.
//
// The fields belong to store.mu, but path.
type shelf struct {
	path  string // without what the names end in
	used  time.Time
	where map[int64]record // nil until the list is read
	end   int64            // of the frames
	size  int64            // of both files

	broken bool // it can't be removed, and isn't used
}

// A record is where a chunk's frame is.
type record struct{ at, len int64 }

const (
	chunksExt = ".chunks"
	listExt   = ".list"
	// An entry of the list: chunk, place and length of the frame, and the CRC-32 of
	// these, little-endian.
	listEntry = 8 + 8 + 4 + 4
)

// read reads the list, and cuts off what no whole entry speaks of.
func (sh *shelf) read() error {
	list, err := os.ReadFile(sh.path + listExt)
	if err != nil {
		return err
	}
	info, err := os.Stat(sh.path + chunksExt)
	if err != nil {
		return err
	}
	where, end, good := map[int64]record{}, int64(0), int64(0)
	for ; len(list) >= listEntry; list = list[listEntry:] {
		chunk := int64(binary.LittleEndian.Uint64(list))
		r := record{int64(binary.LittleEndian.Uint64(list[8:])), int64(binary.LittleEndian.Uint32(list[16:]))}
		if crc32.ChecksumIEEE(list[:20]) != binary.LittleEndian.Uint32(list[20:]) || r.at != end || r.len > info.Size()-end {
			break
		}
		where[chunk] = r
		end += r.len
		good += listEntry
	}
	err = errors.Join(os.Truncate(sh.path+listExt, good), os.Truncate(sh.path+chunksExt, end))
	if err != nil {
		return err
	}
	sh.where, sh.end, sh.size = where, end, end+good
	return nil
}

// frame reads a frame.
func (sh *shelf) frame(r record) ([]byte, error) {
	// There may be more files than a process can keep open.
	f, err := os.Open(sh.path + chunksExt)
	if err != nil {
		return nil, err
	}
	frame := make([]byte, r.len)
	_, err = f.ReadAt(frame, r.at)
	return frame, errors.Join(err, f.Close())
}

// add appends a chunk. After an error nothing is known of the files.
func (sh *shelf) add(chunk int64, frame []byte) error {
	r := record{sh.end, int64(len(frame))}
	entry := binary.LittleEndian.AppendUint64(make([]byte, 0, listEntry), uint64(chunk))
	entry = binary.LittleEndian.AppendUint64(entry, uint64(r.at))
	entry = binary.LittleEndian.AppendUint32(entry, uint32(r.len))
	entry = binary.LittleEndian.AppendUint32(entry, crc32.ChecksumIEEE(entry))
	err := appendTo(sh.path+chunksExt, frame)
	if err == nil {
		err = appendTo(sh.path+listExt, entry)
	}
	sh.end += r.len
	sh.size += r.len + listEntry
	sh.where[chunk] = r
	return err
}

func appendTo(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (sh *shelf) remove() error {
	var errs []error
	for _, ext := range []string{listExt, chunksExt} {
		if err := os.Remove(sh.path + ext); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
