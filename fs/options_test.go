package fs_test

import (
	"context"
	"testing"
	"time"

	rbdfs "rbdbackupfs/fs"
)

// impatient is a clock by which every wait is over soon.
func impatient() *rbdfs.Clock {
	return &rbdfs.Clock{
		Now: time.Now,
		WithTimeout: func(ctx context.Context, _ time.Duration) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Millisecond)
		},
	}
}

func TestOptions(t *testing.T) {
	for _, good := range []string{
		"", "ro", "rw,nosuid,nodev,noexec,noatime", "allow_other,default_permissions", "fsname=a\\,b,subtype=rbdbackupfs",
		"uid=1000,gid=1000,umask=077", "max_read=131072", "defaults,_netdev,nofail,x-systemd.automount", "nonempty",
	} {
		if err := (rbdfs.Options{Extra: []string{good}}).Check(); err != nil {
			t.Errorf("-o %s: %v", good, err)
		}
	}
	for bad, part := range map[string]string{
		"bogus": "-o bogus", "ro,allow_root": "-o allow_root", "bogus=1": "-o bogus=1", "uid=root": "-o uid=root",
		"uid=4294967295": "number", "umask=9": "octal", "umask=1777": "octal", "max_read=1": "4096", "subtype=x": "always",
		"ro=1": "-o ro=1", "max_read=": "-o max_read=",
	} {
		wantError(t, rbdfs.Options{Extra: []string{"ro", bad}}.Check(), rbdfs.ErrOption, part)
	}
	wantError(t, rbdfs.Options{Umask: 0o1000}.Check(), rbdfs.ErrOption)
}
