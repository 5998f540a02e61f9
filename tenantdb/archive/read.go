package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxDocument bounds about.json and the manifest, and maxSQL definitions, in bytes.
	maxDocument = 256 << 20
	maxSQL      = 64 << 20
	// maxWindow bounds what reading takes of memory, in bytes: written is less.
	maxWindow = 64 << 20
)

// Read reads an archive to its end: visit, which may be nil, is given each entry
// before the manifest, with its Path, Bytes, Table and Object, and its bytes. What it
// was given is known to be whole and unchanged only when Read has returned without an
// error. ErrBroken; visit's own error; r's own.
func Read(ctx context.Context, r io.Reader, visit func(ctx context.Context, e Entry, r io.Reader) error) (Manifest, error) {
	in := &source{ctx: ctx, r: r}
	m, err := read(ctx, in, visit)
	switch {
	case err == nil:
		return m, nil
	case in.err != nil: // all else follows from it
		return Manifest{}, in.err
	}
	return Manifest{}, err
}

func read(ctx context.Context, r io.Reader, visit func(context.Context, Entry, io.Reader) error) (m Manifest, err error) {
	packed := &summed{r: r, sum: sha256.New()}
	z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return m, broken("it can't be unpacked")
	}
	defer z.Close()
	t := tar.NewReader(z)
	var seen []Entry
	for {
		h, err := t.Next()
		if err != nil {
			return m, broken("it has no manifest")
		}
		e := Entry{Path: h.Name, Bytes: h.Size}
		if table, is := strings.CutPrefix(h.PAXRecords[comment], ofTable); is {
			e.Table = table
		} else if key, is := strings.CutPrefix(h.PAXRecords[comment], ofObject); is {
			e.Object = key
		}
		if h.Typeflag != tar.TypeReg || !local(h.Name) {
			return m, broken("an entry has no name that it may have")
		}
		if h.Name == manifestPath {
			if err := decode(t, &m); err != nil {
				return m, err
			}
			break
		}
		if e.SHA256, err = readEntry(ctx, e, t, visit); err != nil {
			return m, err
		}
		seen = append(seen, e)
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return m, broken("something follows the manifest")
	}
	if n, err := io.Copy(io.Discard, z); err != nil || n > 0 || !packed.whole() {
		return m, broken("it does not end as it should")
	}
	return m, compare(m, seen)
}

// readEntry has an entry visited, and returns its sum.
func readEntry(ctx context.Context, e Entry, t *tar.Reader, visit func(context.Context, Entry, io.Reader) error) (string, error) {
	sum := sha256.New()
	body := &entryReader{r: io.TeeReader(t, sum)}
	if visit != nil {
		if err := visit(ctx, e, body); err != nil && body.err == nil {
			return "", err
		}
	}
	if body.err == nil { // what the visitor had no use for counts too
		_, _ = io.Copy(io.Discard, body)
	}
	if body.err != nil {
		return "", broken(e.Path)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// entryReader keeps the error of the archive beneath, apart from the visitor's own.
type entryReader struct {
	r   io.Reader
	err error
}

func (e *entryReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}

// source keeps the error of the reader beneath, and heeds ctx.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := 0, s.ctx.Err()
	if err == nil {
		n, err = s.r.Read(p)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func broken(where string) error { return fmt.Errorf("%w: %s", ErrBroken, where) }

// local reports whether a path stays where it is unpacked, on any system.
func local(name string) bool {
	return name != "" && path.Clean(name) == name && name != "." && name != ".." && name[0] != '/' &&
		(len(name) < 3 || name[:3] != "../") && !slices.Contains([]byte(name), '\\') && !slices.Contains([]byte(name), 0)
}

func decode(r io.Reader, into any) error {
	text, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil || len(text) > maxDocument || json.Unmarshal(text, into) != nil {
		return broken("a document can't be read")
	}
	return nil
}

// compare holds what was read against the manifest.
func compare(m Manifest, seen []Entry) error {
	if m.Format != Format {
		return fmt.Errorf("%w: its format is %d, this binary reads %d", ErrBroken, m.Format, Format)
	}
	if len(m.Entries) != len(seen) {
		return broken("entries are missing, or too many")
	}
	rows := map[string]int64{}
	for i, want := range m.Entries {
		have := seen[i]
		if want.Path != have.Path || want.Bytes != have.Bytes || want.SHA256 != have.SHA256 ||
			want.Table != have.Table || want.Object != have.Object {
			return broken(have.Path)
		}
		rows[want.Table] += want.Rows
	}
	for _, t := range m.Tables {
		if rows[t.String()] != t.Rows {
			return broken("rows of " + t.String())
		}
	}
	return nil
}
