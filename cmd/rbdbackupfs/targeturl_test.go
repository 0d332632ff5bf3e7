package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rbdbackupfs/ceph"
	"rbdbackupfs/internal/target"
)

func TestParseTarget(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]targetURL{
		"ceph:":                              {kind: kindCeph},
		"ceph:?":                             {kind: kindCeph},
		"ceph:?conf=/etc/ceph/b.conf":        {kind: kindCeph, ceph: ceph.Config{Conf: "/etc/ceph/b.conf"}},
		"ceph:?conf=b.conf":                  {kind: kindCeph, ceph: ceph.Config{Conf: filepath.Join(here, "b.conf")}},
		"ceph:?user=backup&cluster=b&conf=/": {kind: kindCeph, ceph: ceph.Config{Conf: "/", User: "backup", Cluster: "b"}},
		"ceph:?conf=/a%20b+c%2Bd%26e":        {kind: kindCeph, ceph: ceph.Config{Conf: "/a b c+d&e"}},
		"file:/srv/images":                   {kind: kindFolder, path: "/srv/images"},
		"file:/srv//images/?a=b":             {kind: kindFolder, path: "/srv/images/?a=b"},
		"file:images":                        {kind: kindFolder, path: filepath.Join(here, "images")},
		"path:/srv/vm.img":                   {kind: kindFile, path: "/srv/vm.img"},
	} {
		if got, err := parseTarget(in); err != nil || !equalURL(got, want) {
			t.Errorf("%s gives %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                   "say ceph:",
		"ceph":               "say ceph:",
		"rbd:vm":             "or file:DIR",
		"/srv/images":        "or file:DIR",
		"-":                  "or file:DIR",
		"ceph:rbd":           "say ceph: or ceph:?conf=PATH",
		"file:":              "say file:DIR",
		"ceph:?keyring=/k":   `"keyring" is none of cluster, conf, user`,
		"ceph:?conf=":        "conf is empty",
		"ceph:?user":         "user is empty",
		"ceph:?user=a&user=": "there are 2 of user",
		"ceph:?conf=%zz":     "invalid URL escape",
	} {
		_, err := parseTarget(in)
		if usage := usageError(""); !errors.As(err, &usage) || !strings.Contains(string(usage), want) {
			t.Errorf("%s gives %v, want a usage error with %q", in, err, want)
		}
	}
}

func TestParseDestination(t *testing.T) {
	vm := target.Name{Pool: "rbd", Image: "vm1"}
	for in, want := range map[string]struct {
		url  targetURL
		name target.Name
		text string
	}{
		"-":                    {targetURL{kind: kindStdout}, target.Name{}, "stdout"},
		"ceph:rbd/vm1":         {targetURL{kind: kindCeph}, vm, "ceph:rbd/vm1"},
		"ceph:rbd/ns/vm1":      {targetURL{kind: kindCeph}, target.Name{Pool: "rbd", Namespace: "ns", Image: "vm1"}, "ceph:rbd/ns/vm1"},
		"ceph:rbd/vm1?user=me": {targetURL{kind: kindCeph, ceph: ceph.Config{User: "me"}}, vm, "ceph:rbd/vm1"},
		"file:/srv/a:b?c.img":  {targetURL{kind: kindFile, path: "/srv/a:b?c.img"}, target.Name{}, "file:/srv/a:b?c.img"},
	} {
		got, name, err := parseDestination(in)
		if err != nil || !equalURL(got, want.url) || name != want.name || got.destination(name) != want.text {
			t.Errorf("%s gives %+v, %v, %v", in, got, name, err)
		}
	}
	for in, want := range map[string]string{
		"":                  "say ceph:POOL",
		"vm1.img":           "file:PATH or -",
		"ceph:":             "say ceph:POOL/IMAGE",
		"ceph:vm1":          "say ceph:POOL/IMAGE",
		"ceph:rbd/":         "name is empty",
		"ceph:rbd/vm@s":     "has a '/', '@'",
		"ceph:a/b/c/d":      "say ceph:POOL/IMAGE",
		"ceph:rbd/vm?pool=": `"pool" is none of`,
		"file:":             "say file:PATH",
		"file:/srv/":        "say file:PATH",
	} {
		_, _, err := parseDestination(in)
		if usage := usageError(""); !errors.As(err, &usage) || !strings.Contains(string(usage), want) {
			t.Errorf("%s gives %v, want a usage error with %q", in, err, want)
		}
	}
}

func equalURL(a, b targetURL) bool {
	return a.kind == b.kind && a.path == b.path &&
		a.ceph.Conf == b.ceph.Conf && a.ceph.User == b.ceph.User && a.ceph.Cluster == b.ceph.Cluster
}
