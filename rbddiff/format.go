package rbddiff

import "bytes"

// The banners. All end in a newline.
const (
	bannerDiffV1 = "rbd diff v1\n"
	bannerDiffV2 = "rbd diff v2\n"
	bannerImage  = "rbd image v2\n"
	bannerDiffs  = "rbd image diffs v2\n"
)

// DetectLen is how many bytes of a file's beginning Detect needs. Fewer do
// when the file is shorter.
const DetectLen = 13

// A Format is what a file's first bytes say it is.
type Format uint8

// The formats that Detect knows. Reader reads DiffV1 and Container.
const (
	Unknown   Format = iota // no known banner: a raw image, or anything else
	DiffV1                  // rbd export-diff, rbd merge-diff
	Container               // rbd export --export-format 2
	DiffV2                  // part of a Container; no command writes or reads it on its own
	RBDPrefix               // the file is nothing but the beginning of an rbd banner
	RBDOther                // an rbd banner of another version, or a mangled one
	Gzip                    // RFC 1952
	Zstd                    // RFC 8878, also one that begins with a skippable frame
	LZ4                     // LZ4 frame, also the legacy one of `lz4 -l`
	XZ                      // .xz
	Bzip2                   // .bz2
	Lzop                    // .lzo
	SevenZip                // .7z
	Qcow2                   // QEMU copy-on-write image, any version
	VMDK                    // VMware sparse disk
	VHDX                    // Hyper-V disk
	VHD                     // Virtual PC disk that grows (a fixed one is a raw image with a footer)
)

// formatInfo is what is known of a format: its name, and what to do with a
// file of it that was given where an export was expected.
type formatInfo struct{ name, hint string }

func (f Format) info() formatInfo {
	switch f {
	case DiffV1:
		return formatInfo{"rbd diff v1", ""}
	case Container:
		return formatInfo{"rbd export format 2", ""}
	case DiffV2:
		return formatInfo{"rbd diff v2 outside of an export",
			"rbd itself can't read this either: make the diff again with rbd export-diff"}
	case RBDPrefix:
		return formatInfo{"beginning of an rbd banner", hintIncomplete}
	case RBDOther:
		return formatInfo{"rbd format of an unknown version",
			"Make the export again with rbd export-diff or rbd export --export-format 2; a transfer in text mode also does this to a file"}
	case Gzip:
		return formatInfo{"gzip", "Unpack it first: gzip -dc FILE > FILE.diff"}
	case Zstd:
		return formatInfo{"zstd", "Unpack it first: zstd -dc FILE > FILE.diff"}
	case LZ4:
		return formatInfo{"lz4", "Unpack it first: lz4 -dc FILE > FILE.diff"}
	case XZ:
		return formatInfo{"xz", "Unpack it first: xz -dc FILE > FILE.diff"}
	case Bzip2:
		return formatInfo{"bzip2", "Unpack it first: bzip2 -dc FILE > FILE.diff"}
	case Lzop:
		return formatInfo{"lzop", "Unpack it first: lzop -dc FILE > FILE.diff"}
	case SevenZip:
		return formatInfo{"7z", "Unpack it first: 7z x FILE"}
	case Qcow2:
		return formatInfo{"qcow2", hintConvert}
	case VMDK:
		return formatInfo{"VMDK", hintConvert}
	case VHDX:
		return formatInfo{"VHDX", hintConvert}
	case VHD:
		return formatInfo{"VHD", hintConvert}
	default:
		return formatInfo{"unknown", "This is no rbd diff and no format-2 export; a raw export is read as such when it is named *.raw or *.img"}
	}
}

// String names the format as users know it, for example "rbd diff v1".
func (f Format) String() string { return f.info().name }

// Hint is what to do with a file of this format, one line; empty for those
// that Reader reads.
func (f Format) Hint() string { return f.info().hint }

// Unpack is the command that writes the unpacked bytes of a file, which is to be
// named behind it, to its output; empty for a format that isn't a compressed one.
func (f Format) Unpack() string {
	switch f {
	case Gzip, Zstd, LZ4, XZ, Bzip2, Lzop:
		return f.String() + " -dc"
	case SevenZip:
		return "7z x -so"
	}
	return ""
}

// hintConvert is the cure for every virtual disk.
const hintConvert = "Convert it to a raw image first: qemu-img convert -O raw FILE FILE.raw"

// Detect says what a file is by its first bytes: DetectLen of them, or the
// whole file where that is shorter. Unknown means that no banner is known,
// which is what a raw export looks like; so does an empty file.
func Detect(prefix []byte) Format {
	has := func(magic string) bool { return bytes.HasPrefix(prefix, []byte(magic)) }
	switch {
	case has(bannerDiffV1):
		return DiffV1
	case has(bannerDiffV2):
		return DiffV2
	case has(bannerImage):
		return Container
	case len(prefix) > 0 && isBannerPrefix(prefix):
		return RBDPrefix
	case has("rbd diff v"), has("rbd image v"), has(bannerDiffs[:DetectLen]):
		return RBDOther
	case has("QFI\xfb"):
		return Qcow2
	case has("KDMV"):
		return VMDK
	case has("vhdxfile"):
		return VHDX
	case has("conectix"):
		return VHD
	}
	return detectCompressed(prefix)
}

func detectCompressed(prefix []byte) Format {
	has := func(magic string) bool { return bytes.HasPrefix(prefix, []byte(magic)) }
	switch {
	case has("\x1f\x8b\x08"):
		return Gzip
	case has("\x28\xb5\x2f\xfd"), isSkippableFrame(prefix):
		return Zstd
	case has("\x04\x22\x4d\x18"), has("\x02\x21\x4c\x18"):
		return LZ4
	case has("\xfd7zXZ\x00"):
		return XZ
	case isBzip2(prefix):
		return Bzip2
	case has("\x89LZO\x00\r\n\x1a\n"):
		return Lzop
	case has("7z\xbc\xaf\x27\x1c"):
		return SevenZip
	}
	return Unknown
}

// isBannerPrefix says whether p is the beginning of a banner that a file can
// start with, and not all of it.
func isBannerPrefix(p []byte) bool {
	for _, banner := range [...]string{bannerDiffV1, bannerDiffV2, bannerImage} {
		if len(p) < len(banner) && string(p) == banner[:len(p)] {
			return true
		}
	}
	return false
}

// isSkippableFrame knows the 16 magic numbers 0x184D2A50 to 0x184D2A5F that
// zstd and LZ4 share; tools that write them (pzstd) are of zstd.
func isSkippableFrame(p []byte) bool {
	return len(p) >= 4 && p[0]&0xf0 == 0x50 && string(p[1:4]) == "\x2a\x4d\x18"
}

// isBzip2 wants the number of the first block too, or of the end of an empty
// stream: "BZh" alone is too little to call a raw image compressed.
func isBzip2(p []byte) bool {
	if len(p) < 10 || string(p[:3]) != "BZh" || p[3] < '1' || p[3] > '9' {
		return false
	}
	block := string(p[4:10])
	return block == "\x31\x41\x59\x26\x53\x59" || block == "\x17\x72\x45\x38\x50\x90"
}
