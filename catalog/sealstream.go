package catalog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// A sealed stream is a header and tink's streaming AEAD behind it
// (developers.google.com/tink/streaming-aead): the header has the magic, the length
// of the sealed data key in two bytes, and that key. So a rotation of the keyset
// touches no stream, and a stream of any length costs the keyset one use.
const (
	streamMagic   = "FHSTRM1\n"
	streamKeySize = 32
	streamSegment = 1 << 20
	streamHash    = "SHA256"

	// maxSealedKey is more than any AEAD of tink's adds to 32 bytes.
	maxSealedKey = 1 << 10
)

// streamAAD keeps data keys apart from everything else that a keyset seals.
func streamAAD(aad string) string { return "stream:" + aad }

// SealStream encrypts what is written to it into w, bound to aad. The stream is
// whole only after Close, which doesn't close w; without it OpenStream refuses it.
func (k *Keyset) SealStream(w io.Writer, aad string) (io.WriteCloser, error) {
	key := make([]byte, streamKeySize)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	sealed, _, err := k.Seal(key, streamAAD(aad))
	if err != nil {
		return nil, fmt.Errorf("seal stream: %w", err)
	}
	primitive, err := streamCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal stream: %w", err)
	}
	header := binary.BigEndian.AppendUint16([]byte(streamMagic), uint16(len(sealed)))
	if _, err := w.Write(append(header, sealed...)); err != nil {
		return nil, fmt.Errorf("seal stream: %w", err)
	}
	stream, err := primitive.NewEncryptingWriter(w, []byte(aad))
	if err != nil {
		return nil, fmt.Errorf("seal stream: %w", err)
	}
	return stream, nil
}

// OpenStream decrypts what SealStream made with the same aad. It reads the header
// at once, and the rest as it is asked for: what it returns is true as far as it
// goes, and whole when io.EOF has come. A stream that is changed, cut short, of
// another owner or sealed with another key ends in ErrSealBroken, for good.
func (k *Keyset) OpenStream(r io.Reader, aad string) (io.Reader, error) {
	source := &streamSource{r: r}
	key, err := k.streamKey(source, aad)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", source.cause(err))
	}
	primitive, err := streamCipher(key)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	stream, err := primitive.NewDecryptingReader(source, []byte(aad))
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", source.cause(err))
	}
	return &openedStream{source: source, stream: stream}, nil
}

func streamCipher(key []byte) (*subtle.AESGCMHKDF, error) {
	return subtle.NewAESGCMHKDF(key, streamHash, streamKeySize, streamSegment, 0)
}

func (k *Keyset) streamKey(r io.Reader, aad string) ([]byte, error) {
	header := make([]byte, len(streamMagic)+2)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(header[len(streamMagic):])
	if string(header[:len(streamMagic)]) != streamMagic || n > maxSealedKey {
		return nil, ErrSealBroken
	}
	sealed := make([]byte, n)
	if _, err := io.ReadFull(r, sealed); err != nil {
		return nil, err
	}
	return k.Open(sealed, streamAAD(aad))
}

// streamSource tells a source that failed from one that ended too early.
type streamSource struct {
	r   io.Reader
	err error // of r, not an end
}

func (s *streamSource) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// cause is the source's error when that is why, and ErrSealBroken otherwise.
func (s *streamSource) cause(err error) error {
	if s.err != nil {
		return s.err
	}
	if errors.Is(err, ErrSealBroken) {
		return err
	}
	return ErrSealBroken
}

// openedStream keeps to its first error: asked again after a refused last segment,
// tink's reader would answer that all was read.
type openedStream struct {
	source *streamSource
	stream io.Reader
	err    error
}

func (o *openedStream) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := o.stream.Read(p)
	if err != nil {
		if !errors.Is(err, io.EOF) || o.source.err != nil {
			err = fmt.Errorf("read stream: %w", o.source.cause(err))
		}
		o.err = err
	}
	return n, err
}

// SealStream is Keyset.SealStream with the catalog's keyset.
func (c *Catalog) SealStream(w io.Writer, aad string) (io.WriteCloser, error) {
	return c.keyset.SealStream(w, aad)
}

// OpenStream is Keyset.OpenStream with the catalog's keyset.
func (c *Catalog) OpenStream(r io.Reader, aad string) (io.Reader, error) {
	return c.keyset.OpenStream(r, aad)
}
