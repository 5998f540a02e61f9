package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// writer adds entries to an archive, one after the other.
type writer struct {
	out  *summing
	z    *zstd.Encoder
	tar  *tar.Writer
	at   time.Time
	man  Manifest
	used map[string]bool // paths; two names may be alike once they are safe
}

func newWriter(w io.Writer, at time.Time) (*writer, error) {
	out := &summing{w, sha256.New()}
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return &writer{out: out, z: z, tar: tar.NewWriter(z), at: at.UTC().Truncate(time.Second), used: map[string]bool{}}, nil
}

// leaveOut notes what isn't in the archive.
func (w *writer) leaveOut(what, why string) {
	w.man.LeftOut = append(w.man.LeftOut, LeftOut{what, why})
}

// add writes an entry of exactly size bytes; of e all but path and contents' measures
// is given. It fails when r has fewer or more.
func (w *writer) add(e Entry, size int64, r io.Reader) error {
	e.Path = w.free(e.Path)
	sum := sha256.New()
	if err := w.write(e, size, io.TeeReader(r, sum)); err != nil {
		return err
	}
	e.Bytes, e.SHA256 = size, hex.EncodeToString(sum.Sum(nil))
	w.man.Entries = append(w.man.Entries, e)
	return nil
}

var errLength = errors.New("archive: an entry is shorter or longer than was said")

func (w *writer) write(e Entry, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.Path, Size: size, Mode: 0o644, ModTime: w.at, Format: tar.FormatPAX}
	// Who reads the archive as a stream comes to the manifest too late.
	switch {
	case e.Table != "":
		h.PAXRecords = map[string]string{comment: ofTable + e.Table}
	case e.Object != "":
		h.PAXRecords = map[string]string{comment: ofObject + e.Object}
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	n, err := io.Copy(w.tar, r)
	switch {
	case errors.Is(err, tar.ErrWriteTooLong), err == nil && n != size:
		return errLength
	case err != nil:
		return err
	}
	return nil
}

// What a tar header says of an entry, in the one record of which no program complains.
const (
	comment  = "comment"
	ofTable  = "freehold table "
	ofObject = "freehold object "
)

func (w *writer) text(path, text string) error {
	return w.add(Entry{Path: path}, int64(len(text)), bytes.NewReader([]byte(text)))
}

func (w *writer) json(path string, v any) error {
	text, err := document(v)
	if err != nil {
		return err
	}
	return w.text(path, string(text))
}

func document(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return append(text, '\n'), nil
}

// free is path, or another one like it when an entry has it.
func (w *writer) free(path string) string {
	for name, n := path, 2; ; n++ {
		if !w.used[name] {
			w.used[name] = true
			return name
		}
		name = path + "~" + strconv.Itoa(n)
	}
}

// close ends the archive with its manifest.
func (w *writer) close() error {
	text, err := document(w.man)
	if err == nil {
		err = w.write(Entry{Path: manifestPath}, int64(len(text)), bytes.NewReader(text))
	}
	if err == nil {
		err = w.tar.Close()
	}
	if err != nil {
		w.abandon()
		return err
	}
	if err := w.z.Close(); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return w.out.end()
}

// abandon frees what an archive holds that isn't ended.
func (w *writer) abandon() { w.z.Reset(nil); _ = w.z.Close() }
