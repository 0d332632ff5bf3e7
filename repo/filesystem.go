package repo

import "golang.org/x/sys/unix"

// A filesystem is what has to be known about the one that a folder is on.
type filesystem uint8

const (
	// fsOther: local as far as is known. Changes are noticed by inotify; what a
	// lease says there is not known.
	fsOther filesystem = iota
	// fsLease: local, and the kernel counts writers itself, so a refused lease
	// means that a process has the file open for writing.
	fsLease
	// fsNetwork: other machines change it without inotify noticing, attributes
	// are cached, and leases are a matter between client and server: NFS and
	// SMB refuse one whenever they hold no delegation or oplock.
	fsNetwork
)

// filesystemOf asks the kernel, by the magic numbers of statfs(2).
func filesystemOf(fd int) filesystem {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fsOther
	}
	return filesystemByMagic(uint32(st.Type))
}

func filesystemByMagic(magic uint32) filesystem {
	switch magic {
	case 0xEF53, // ext2, ext3, ext4
		0x58465342, // XFS
		0x9123683E, // Btrfs
		0x01021994, // tmpfs
		0xF2F52010, // F2FS
		0x2FC12FC1, // ZFS
		0xCA451A4E, // bcachefs
		0x794C7630, // overlayfs
		0x00004D44, // FAT
		0x2011BAB0, // exFAT
		0x7366746E: // NTFS3
		return fsLease
	case 0x00006969, // NFS
		0x0000517B, 0xFF534D42, 0xFE534D42, // SMB, CIFS, SMB2
		0x00C36400,             // CephFS
		0x65735546,             // FUSE: sshfs, GlusterFS, s3fs, virtiofs
		0x01021997,             // 9P
		0x0BD00BD0,             // Lustre
		0x47504653,             // GPFS
		0x19830326,             // BeeGFS
		0xAAD7AAEA,             // PanFS
		0x5346414F, 0x6B414653, // AFS
		0x73757245, // Coda
		0x01161970, // GFS2
		0x7461636F, // OCFS2
		0x786F4256, // VirtualBox shares
		0xBACBACBC: // VMware shares
		return fsNetwork
	default:
		return fsOther
	}
}
