package overlay

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// zeroPiece is how much is written at once where no holes can be made, bytes.
const zeroPiece = 1 << 20

// Zero makes a range zeros, and gives back the room that it takes. Errors: as WriteAt.
func (o *Overlay) Zero(ctx context.Context, base Base, off, n int64) error {
	if err := o.check(off, n); err != nil || n == 0 {
		return err
	}
	o.writers.Lock()
	defer o.writers.Unlock()
	return o.refuse(o.zero(ctx, base, off, n))
}

func (o *Overlay) zero(ctx context.Context, base Base, off, n int64) error {
	if err := o.failure(); err != nil {
		return err
	}
	end := off + n
	r := run{covering(0, off).to, end >> blockShift}
	if end == o.id.Size {
		r.to = blockCount(end) // nothing is behind it in its block
	}
	if r.len() <= 0 {
		return o.zeros(ctx, base, off, end)
	}
	if err := o.zeros(ctx, base, off, r.from<<blockShift); err != nil {
		return err
	}
	if err := o.hole(ctx, base, r); err != nil {
		return err
	}
	return o.zeros(ctx, base, min(r.to<<blockShift, end), end)
}

// hole makes whole blocks zeros.
func (o *Overlay) hole(ctx context.Context, base Base, r run) error {
	if err := o.create(); err != nil {
		return err
	}
	// Always, for what a write that failed may have left in blocks that aren't owned.
	err := punch(o.data, r)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return o.zeros(ctx, base, r.from<<blockShift, min(r.to<<blockShift, o.id.Size))
	}
	if err != nil {
		return err
	}
	free := o.count(o.backed, r) << blockShift
	o.own(r)
	o.mu.Lock()
	o.backed.remove(r)
	o.mu.Unlock()
	return o.store.reserve(o, -free)
}

// zeros writes them.
func (o *Overlay) zeros(ctx context.Context, base Base, from, to int64) error {
	if from >= to {
		return nil
	}
	buf := make([]byte, min(to-from, zeroPiece))
	for from < to {
		n, err := o.put(ctx, base, buf[:min(to-from, int64(len(buf)))], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

func (o *Overlay) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}
