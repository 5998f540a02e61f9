package command

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"freehold/inference/finetune"
)

// Bounds of a tar.
const (
	maxEntries = 2000
	maxPath    = 200 // bytes
)

// badTar is a failure for good: the command would make the same again.
func badTar(format string, args ...any) error {
	return &finetune.Failure{Code: finetune.CodeTrainer, Message: "The trainer's output " + fmt.Sprintf(format, args...) + "."}
}

// unpack writes a tar's files below dir: regular files and folders, by names that
// stay inside, each once. A *finetune.Failure says what is wrong with the tar; any
// other error is the store's or the disk's.
func unpack(r io.Reader, dir string, most int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack output: %w", err)
	}
	defer func() { _ = root.Close() }()
	source := &reader{Reader: r}
	files := tar.NewReader(source)
	for entries := 0; ; entries++ {
		h, err := files.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case source.err != nil:
			return fmt.Errorf("unpack output: %w", source.err)
		case err != nil:
			return badTar("is no tar")
		case entries == maxEntries:
			return badTar("has more than %d entries", maxEntries)
		}
		name := path.Clean(h.Name)
		if !inside(name) {
			return badTar("has a file by a name that isn't allowed")
		}
		switch h.Typeflag {
		case tar.TypeDir:
			if err := root.MkdirAll(name, 0o700); err != nil {
				return badTar("has a folder where a file is")
			}
		case tar.TypeReg:
			if most -= h.Size; most < 0 {
				return badTar("is too large")
			}
			if err := write(root, name, files); err != nil {
				if source.err != nil {
					return fmt.Errorf("unpack output: %w", source.err)
				}
				return err
			}
		case tar.TypeXGlobalHeader:
		default:
			return badTar("has something that is no file")
		}
	}
}

func write(root *os.Root, name string, r io.Reader) error {
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o700); err != nil {
			return badTar("has a folder where a file is")
		}
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return badTar("has a file twice")
	}
	if err != nil {
		return fmt.Errorf("unpack output: %w", err)
	}
	_, err = io.Copy(f, r)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
		err = badTar("is cut off")
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("unpack output: %w", err)
	}
	return nil
}

// inside reports whether a clean name stays below a folder, and can be an object's.
func inside(name string) bool {
	return fs.ValidPath(name) && len(name) <= maxPath && utf8.ValidString(name) && !strings.Contains(name, `\`) &&
		!strings.ContainsFunc(name, unicode.IsControl)
}

// reader remembers that it failed, to tell the store's faults from the tar's.
type reader struct {
	io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
