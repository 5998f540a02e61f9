package command_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"freehold/inference/finetune"
	"freehold/inference/finetune/command"
)

// A command that works on another machine gets the data, and hands the artifact in,
// by addresses alone.
func TestAddresses(t *testing.T) {
	t.Parallel()
	run := staged(t)
	told := t.TempDir()
	// The test is the other machine: it takes its turn when the command has told it
	// the addresses, by name and value.
	run.Report = func(ctx context.Context, _ finetune.Event) error {
		get, put := address(t, told, "FREEHOLD_TRAIN_URL"), address(t, told, "FREEHOLD_OUTPUT_URL")
		if status, body := call(ctx, t, http.MethodGet, get, nil); status != http.StatusOK || body != "{}\n" {
			t.Errorf("the data: %d %q", status, body)
		}
		if status, _ := call(ctx, t, http.MethodPut, get, []byte("x")); status/100 != 4 {
			t.Errorf("the data's address takes a PUT: %d", status)
		}
		if status, _ := call(ctx, t, http.MethodPut, put, archive(t, file("./a/b.bin", "content"), file("c", "c"))); status != http.StatusOK {
			t.Errorf("the output: %d", status)
		}
		return nil
	}
	result := train(t, run, `env >"`+told+`/env"; echo '{"type":"message","message":"ready"}'`)
	if result.Upstream != "" || read(t, run, "a/b.bin") != "content" || read(t, run, "c") != "c" {
		t.Errorf("%+v", result)
	}
	// What the command leaves here comes first.
	again := simple(t)
	again.Objects, again.Staging = run.Objects, run.Staging
	train(t, again, `echo own >"$FREEHOLD_OUTPUT/own"`)
	if entries, err := os.ReadDir(again.Out); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	// A second try of a killed worker finds what the first one's work has handed in.
	third := simple(t)
	third.Objects, third.Staging = run.Objects, run.Staging
	train(t, third, `true`)
	if read(t, third, "c") != "c" {
		t.Error("the output of the first try is lost")
	}
}

func address(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return value
		}
	}
	t.Errorf("%s isn't there", name)
	return ""
}

func call(ctx context.Context, t *testing.T, method, url string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		t.Error("not an address")
		return 0, ""
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Error("no answer")
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(b)
}

type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(body)), Mode: 0o777}, body}
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	of := func(entries ...entry) []byte { return archive(t, entries...) }
	special := func(kind byte, name, to string) entry {
		return entry{Header: tar.Header{Name: name, Typeflag: kind, Linkname: to}}
	}
	many := make([]entry, 2001)
	for i := range many {
		many[i] = special(tar.TypeDir, "d/", "")
	}
	whole := of(file("a", strings.Repeat("x", 5000)))
	for name, c := range map[string]struct {
		tar  []byte
		want []string // nil: refused
	}{
		"files":            {of(special(tar.TypeDir, "./", ""), file("./a", "1"), special(tar.TypeDir, "b/", ""), file("b/c", ""), file("d/e/f", "2")), []string{"a", "b/c", "d/e/f"}},
		"empty":            {of(), []string{}},
		"nothing at all":   {nil, []string{}},
		"upwards":          {of(file("../x", "1")), nil},
		"upwards within":   {of(file("a/../../x", "1")), nil},
		"harmless upwards": {of(file("a/../x", "1")), []string{"x"}},
		"absolute":         {of(file("/etc/x", "1")), nil},
		"backslash":        {of(file(`a\b`, "1")), nil},
		"control":          {of(file("a\nb", "1")), nil},
		"link":             {of(special(tar.TypeSymlink, "l", "/etc/passwd")), nil},
		"through a link":   {of(special(tar.TypeSymlink, "l", "/tmp"), file("l/x", "1")), nil},
		"hard link":        {of(file("a", "1"), special(tar.TypeLink, "b", "a")), nil},
		"device":           {of(special(tar.TypeChar, "null", "")), nil},
		"pipe":             {of(special(tar.TypeFifo, "p", "")), nil},
		"twice":            {of(file("a", "1"), file("./a", "2")), nil},
		"file and folder":  {of(file("a", "1"), file("a/b", "2")), nil},
		"too large":        {of(file("a", strings.Repeat("x", 6000)), file("b", strings.Repeat("x", 6000))), nil},
		"too many":         {of(many...), nil},
		"long name":        {of(file(strings.Repeat("x", 201), "1")), nil},
		"no tar":           {bytes.Repeat([]byte("no tar "), 300), nil},
		"cut off":          {whole[:3000], nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "in", "out")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			err := command.Unpack(bytes.NewReader(c.tar), dir, 10000)
			if _, failed := errors.AsType[*finetune.Failure](err); failed != (c.want == nil) || err != nil && !failed {
				t.Fatalf("%v", err)
			}
			got := below(t, filepath.Dir(filepath.Dir(dir)))
			for path, mode := range got {
				if !strings.HasPrefix(path, "in/out/") || mode != 0o600 {
					t.Errorf("%s has mode %v", path, mode)
				}
			}
			if c.want == nil {
				return
			}
			for _, path := range c.want {
				if _, ok := got["in/out/"+path]; !ok {
					t.Errorf("%s is missing", path)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("files %q, want %q", slices.Sorted(maps.Keys(got)), c.want)
			}
		})
	}
	broken := io.MultiReader(bytes.NewReader(whole[:2000]), iotest.ErrReader(errBroken))
	if err := command.Unpack(broken, t.TempDir(), 10000); !errors.Is(err, errBroken) {
		t.Errorf("the store broke: %v", err)
	}
}

var errBroken = errors.New("connection lost")

// below lists what lies in a folder but folders, with its type and mode.
func below(t testing.TB, dir string) map[string]os.FileMode {
	t.Helper()
	all := map[string]os.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		all[filepath.ToSlash(name)] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// FuzzUnpack: whatever comes, nothing lies outside of the folder, and nothing in it
// but plain files of bounded size.
func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, file("a", "1"), file("b/c", "2")))
	f.Add(archive(f, entry{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}}, file("l/x", "1")))
	f.Add(archive(f, file("../x", "1")))
	f.Add([]byte("no tar"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := filepath.Join(t.TempDir(), "in", "out")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := command.Unpack(bytes.NewReader(b), dir, 1<<16); err != nil {
			if _, ok := errors.AsType[*finetune.Failure](err); !ok && !strings.Contains(err.Error(), "name too long") {
				t.Errorf("untyped: %v", err)
			}
		}
		for path, mode := range below(t, filepath.Dir(filepath.Dir(dir))) {
			if !strings.HasPrefix(path, "in/out/") || !mode.IsRegular() {
				t.Errorf("%s of mode %v", path, mode)
			}
		}
	})
}
