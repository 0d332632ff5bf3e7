package target

import (
	"fmt"
	"strings"
	"syscall"
	"unicode/utf8"
)

// MaxName is the longest name of a pool, namespace or image, bytes: what a folder
// entry can hold.
const MaxName = 255

// A Name says which image of a target is meant. Namespace may be empty.
type Name struct {
	Pool      string `json:"pool"`
	Namespace string `json:"namespace,omitempty"`
	Image     string `json:"image"`
}

// String is the name as the rbd command takes it: pool/image, pool/namespace/image.
func (n Name) String() string {
	if n.Namespace == "" {
		return n.Pool + "/" + n.Image
	}
	return n.Pool + "/" + n.Namespace + "/" + n.Image
}

// ParseName is the inverse of String. It doesn't check the parts: Check does.
func ParseName(text string) (Name, error) {
	parts := strings.Split(text, "/")
	switch len(parts) {
	case 2:
		return Name{Pool: parts[0], Image: parts[1]}, nil
	case 3:
		return Name{Pool: parts[0], Namespace: parts[1], Image: parts[2]}, nil
	}
	return Name{}, &Error{
		Op: "name", Name: text, Errno: syscall.EINVAL, Err: fmt.Errorf("%q is no POOL/IMAGE or POOL/NAMESPACE/IMAGE", text),
	}
}

// Check refuses names that rbd's commands could not name again, and those of
// temporary files. The error is an *Error with EINVAL.
func (n Name) Check() error {
	for _, part := range []struct{ what, text string }{
		{"pool", n.Pool}, {"namespace", n.Namespace}, {"image", n.Image},
	} {
		if part.what == "namespace" && part.text == "" {
			continue
		}
		if reason := bad(part.text); reason != "" {
			return &Error{
				Op: "name", Name: n.String(), Errno: syscall.EINVAL,
				Err: fmt.Errorf("the %s's name %s", part.what, reason), Hint: "Choose another name",
			}
		}
	}
	return nil
}

func bad(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > MaxName:
		return fmt.Sprintf("is longer than %d bytes", MaxName)
	case name[0] == '.':
		return "begins with '.', as those of temporary files do"
	case !utf8.ValidString(name):
		return "is no UTF-8 text"
	case strings.ContainsAny(name, "/@#\x00"):
		return "has a '/', '@', '#' or NUL in it, which the rbd command takes for something else"
	}
	return ""
}
