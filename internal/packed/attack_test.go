package packed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
)

// An attack is a codec, and the programs that pack and unpack it.
type attack struct {
	codec  Codec
	pack   []string
	unpack []string
	// alone: lz4 1.9.4 can't go on after a frame of this kind, though "lz4 -dc" takes
	// each of two by itself.
	alone bool
}

func attacks() []attack {
	return []attack{
		{Gzip, []string{"gzip", "-1"}, []string{"gzip", "-dc"}, false},
		{Gzip, []string{"bgzip", "-c"}, []string{"gzip", "-dc"}, false},
		{Zstd, []string{"zstd", "-1"}, []string{"zstd", "-dcq"}, false},
		{Zstd, []string{"zstd", "-1", "--no-check"}, []string{"zstd", "-dcq"}, false},
		{Zstd, []string{"pzstd", "-q"}, []string{"zstd", "-dcq"}, false},
		{LZ4, []string{"lz4", "-c"}, []string{"lz4", "-dcq"}, false},
		{LZ4, []string{"lz4", "-c", "-B4", "-BD"}, []string{"lz4", "-dcq"}, false},
		{LZ4, []string{"lz4", "-c", "-B4", "-BX", "--no-frame-crc"}, []string{"lz4", "-dcq"}, true},
		{LZ4, []string{"lz4", "-c", "-l"}, []string{"lz4", "-dcq"}, false},
		{XZ, []string{"xz", "-c", "-0"}, []string{"xz", "-dc"}, false},
		{XZ, []string{"xz", "-c", "-0", "-T2", "--block-size=16KiB"}, []string{"xz", "-dc"}, false},
		{Bzip2, []string{"bzip2", "-c", "-1"}, []string{"bzip2", "-dc"}, false},
		{Bzip2, []string{"pbzip2", "-c", "-1", "-p2"}, []string{"bzip2", "-dc"}, false},
	}
}

// damage changes a file in one of many ways.
func damage(rng *rand.Rand, file, other []byte) []byte {
	bad := bytes.Clone(file)
	at := rng.IntN(len(bad))
	if rng.IntN(3) == 0 {
		at = min(rng.IntN(40), len(bad)-1) // headers
	} else if rng.IntN(4) == 0 {
		at = max(0, len(bad)-1-rng.IntN(40)) // trailers
	}
	n := min(1+rng.IntN(64), len(bad)-at)
	switch rng.IntN(10) {
	case 0, 1, 2:
		bad[at] ^= 1 << rng.IntN(8)
	case 3:
		bad[at] = byte(rng.IntN(256))
	case 4:
		bad = bad[:at]
	case 5: // twice
		bad = append(bad[:at+n:at+n], file[at:]...)
	case 6: // left out
		bad = append(bad[:at:at], file[at+n:]...)
	case 7:
		clear(bad[at : at+n])
	case 8: // the end of another one
		bad = append(bad[:at:at], other[min(at, len(other)):]...)
	case 9: // something after the end
		switch rng.IntN(4) {
		case 0:
			bad = append(bad, make([]byte, 1+rng.IntN(20))...)
		case 1:
			bad = append(bad, noise(rng.Uint64(), 1+rng.IntN(20))...)
		case 2:
			bad = append(bad, other...)
		case 3:
			bad = append(bad, file[:at]...)
		}
	}
	return bad
}

// unpackAll is what our reader gives, at once and then read again in pieces.
func unpackAll(t *testing.T, codec Codec, file []byte) ([]byte, error) {
	t.Helper()
	c := testCache(t, "", 0)
	m, err := c.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), codec, false, "id")
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v (%T)", codec, err, err)
		}
		return nil, err
	}
	data := make([]byte, m.Size())
	err = c.ReadAt(t.Context(), bytes.NewReader(file), int64(len(file)), m, data, 0)
	if err != nil {
		t.Errorf("%s: scanned, and not read: %v", codec, err)
	}
	return data, err
}

// TestAgainstTools: what we take for whole is what the real tool takes for whole,
// and gives the same bytes. PACKED_ATTACK=DURATION goes on for that long, and files over
// which they differ go to PACKED_ATTACK_KEEP.
func TestAgainstTools(t *testing.T) {
	testenv.Need(t, "packers")
	keep := cmp.Or(os.Getenv("PACKED_ATTACK_KEEP"), t.TempDir())
	rounds, end := 12, time.Time{}
	seed := uint64(1)
	if s := os.Getenv("PACKED_ATTACK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		rounds, end, seed = 1<<30, time.Now().Add(d), uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	list := attacks()
	contents := [2][]byte{mixed(3000), toolText(150 << 10)}
	files := make([][2][]byte, len(list))
	for i, a := range list {
		files[i] = [2][]byte{tool(t, contents[0], a.pack...), tool(t, contents[1], a.pack...)}
	}
	taken := 0
	for round := 0; round < rounds && (end.IsZero() || time.Now().Before(end)); round++ {
		for i, a := range list {
			whole, other := files[i][round%2], files[i][(round+1)%2]
			bad := damage(rng, whole, other)
			if len(bad) == 0 || a.alone && bytes.HasSuffix(bad, other) {
				continue
			}
			data, err := unpackAll(t, a.codec, bad)
			if err != nil {
				continue
			}
			taken++
			want, complaint := judge(t.Context(), a, bad)
			if a.codec == XZ && bytes.Equal(data, contents[round%2]) {
				continue // what was changed means nothing, though xz sees it: the checksum is right
			}
			if complaint != nil || !bytes.Equal(data, want) {
				name := filepath.Join(keep, "packed-"+string(a.codec)+"-"+strconv.Itoa(round))
				_ = os.WriteFile(name, bad, 0o600)
				t.Errorf("%v: we give %d bytes, the tool %d and %v; see %s", a.pack, len(data), len(want), complaint, name)
			}
		}
	}
	t.Logf("%d were taken", taken)
}

// judge is what the real tool unpacks.
func judge(ctx context.Context, a attack, file []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, a.unpack[0], a.unpack[1:]...)
	cmd.Stdin = bytes.NewReader(file)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%w: %s", err, complaint.Bytes())
	}
	return out, nil
}
