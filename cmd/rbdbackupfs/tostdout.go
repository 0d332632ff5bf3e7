package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/progress"
	"rbdbackupfs/restore"
)

const (
	// outPiece is what is read and written at once, bytes.
	outPiece = 4 << 20
	// outAhead is how many pieces are read ahead.
	outAhead = 6
)

// toStdout writes the bytes of one snapshot, with zeros for holes.
func (r *restoring) toStdout(ctx context.Context) error {
	signal.Ignore(unix.SIGPIPE) // an error is enough
	last := r.path[len(r.path)-1]
	bar := r.app.progress("restoring")
	written, err := copyOut(ctx, r.app.stdout, r.views[len(r.views)-1], last.Size, func(done int64) {
		bar.Update(done, last.Size, progress.Bytes, printable(r.label()))
	})
	bar.Finish(err == nil)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; stdout got %s of %s", size(written), size(last.Size))
	case errors.Is(err, unix.EPIPE):
		return fmt.Errorf("who reads stdout ended after %s of %s: %w", size(written), size(last.Size), err)
	case err != nil:
		return fmt.Errorf("%w; stdout got %s of %s, which is not the image", r.nameDamage(ctx, err), size(written), size(last.Size))
	}
	fmt.Fprintln(r.app.stderr, printable(r.summary(last.Size, last.Allocated)))
	return nil
}

// An outgoing is a piece on its way to stdout.
type outgoing struct {
	n    int64
	data *[outPiece]byte // nil for zeros
	read chan error      // gets the outcome of reading data
}

// copyOut writes size bytes of src in order, while it reads ahead in parallel. It
// returns how many it has written, and calls wrote with that after each piece.
func copyOut(ctx context.Context, w io.Writer, src restore.Source, size int64, wrote func(done int64)) (done int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var reads sync.WaitGroup
	defer reads.Wait()
	defer cancel()
	pool := sync.Pool{New: func() any { return new([outPiece]byte) }}
	queue := make(chan outgoing, outAhead)
	var failed error
	reads.Go(func() {
		defer close(queue)
		failed = splitOut(ctx, src, size, func(off, n int64, data bool) error {
			piece := outgoing{n: n}
			if data {
				piece.data, piece.read = pool.Get().(*[outPiece]byte), make(chan error, 1)
				reads.Go(func() {
					_, err := src.ReadAt(ctx, piece.data[:n], off)
					if errors.Is(err, io.EOF) {
						err = nil
					}
					piece.read <- err
				})
			}
			select {
			case queue <- piece:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	var zeros [outPiece]byte
	for piece := range queue {
		from := &zeros
		if piece.data != nil {
			if err := <-piece.read; err != nil {
				return done, fmt.Errorf("reading %d bytes of the backup at %d: %w", piece.n, done, err)
			}
			from = piece.data
		}
		if _, err := w.Write(from[:piece.n]); err != nil {
			return done, err
		}
		if piece.data != nil {
			pool.Put(piece.data)
		}
		done += piece.n
		wrote(done)
	}
	return done, failed
}

// splitOut calls visit with pieces, in order: those that have data somewhere, and
// the others.
func splitOut(ctx context.Context, src restore.Source, size int64, visit func(off, n int64, data bool) error) error {
	data := int64(-1) // where the next data begins, as far as that was asked
	for off := int64(0); off < size; off += outPiece {
		if data < off {
			next, err := src.NextData(ctx, off)
			if errors.Is(err, chain.ErrNoData) {
				next, err = size, nil
			}
			if err != nil {
				return err
			}
			data = next
		}
		n := min(size-off, outPiece)
		if err := visit(off, n, data < off+n); err != nil {
			return err
		}
	}
	return nil
}
