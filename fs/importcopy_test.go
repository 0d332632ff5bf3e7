package fs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
)

// cp has the copying done here for a source without holes, in slices.
func TestImportCopyRange(t *testing.T) {
	lib := fstest.New().List()
	content := scattered()
	damaged := fstest.Data(make([]byte, 1<<20))
	damaged.Damaged = []fstest.Range{{Off: 0, End: 1 << 20}}
	lib.Set("vm", fstest.Spec{Name: "s", Content: content}, fstest.Spec{Name: "bad", Content: damaged})
	importer := fstest.NewImporter()
	importer.Script(func(job *fstest.Job) { job.CopyStep = 1 << 20 })
	m := fstest.NewMount(t, lib, rbdfs.Options{Importer: importer})
	for args, copies := range map[string]int{
		"--sparse=never": int(content.Size>>20) + 1, "--sparse=auto": 0, "--sparse=always": 0, "--reflink=always": 0,
	} {
		out, err := exec.Command("cp", args, m.Images("vm/s.img"), m.Import("rbd/x")).CombinedOutput()
		if args == "--reflink=always" {
			if err == nil {
				t.Error("there are no reflinks")
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v, %s", args, err, out)
		}
		job := importer.Last()
		<-job.Released
		if got, _, _ := job.Counts(); got != copies && (got == 0 || copies == 0) || got > copies+1 {
			t.Errorf("cp %s: %d calls, want %d", args, got, copies)
		}
		if !bytes.Equal(job.Bytes(), content.Bytes()) {
			t.Errorf("cp %s: other bytes", args)
		}
	}
	out, err := sh(`cp --sparse=never "$1" "$2"`, m.Images("vm/bad.img"), m.Import("rbd/y"))
	if err == nil || !strings.Contains(string(out), "Input/output error") {
		t.Errorf("damaged: %v, %s", err, out)
	}
	// From what is no image, the kernel reads and writes.
	run(t, "cp", "--sparse=never", filepath.Join(m.Path, "status.json"), m.Import("rbd/z"))
	if got, err := os.ReadFile(filepath.Join(m.Path, "status.json")); err != nil || !bytes.Equal(got, importer.Last().Bytes()) {
		t.Errorf("status.json: %v", err)
	}
	// A range behind the end is empty, and the kernel goes on asking.
	run(t, "cp", "--sparse=never", m.Images("vm/s.img"), m.Import("rbd/x"))
	if got, _, _ := importer.Last().Counts(); got == 0 {
		t.Error("the kernel doesn't ask any more")
	}
}

// A copy that gets nowhere for a second is asked for again: nothing copied would
// be the end of the file.
func TestImportSlowCopyRange(t *testing.T) {
	block := make(chan struct{})
	importer := fstest.NewImporter()
	importer.Script(func(job *fstest.Job) { job.Block = block })
	m := fstest.NewMount(t, small(), rbdfs.Options{Importer: importer, Clock: impatient()})
	cmd := exec.Command("cp", "--sparse=never", m.Images("rbd/vm1/v1.img"), m.Import("rbd/x"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	job := <-importer.Started()
	for range 3 {
		<-job.Waiting
	}
	close(block)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	<-job.Released
	if copies, _, _ := job.Counts(); copies < 3 || string(job.Bytes()) != "first" {
		t.Errorf("%d calls, %q", copies, job.Bytes())
	}
}
