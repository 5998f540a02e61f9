package archive

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
)

// An archive ends in a frame that unpackers skip (RFC 8878, 3.1.2) and that holds the
// SHA-256 of all bytes before it: packed data can be changed so that it still unpacks
// to the same.
var sumFrame = []byte{0x5E, 0x2A, 0x4D, 0x18, sha256.Size, 0, 0, 0}

const sumSize = 8 + sha256.Size

// summing is a writer that can end with that frame.
type summing struct {
	w   io.Writer
	sum hash.Hash
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	return n, err
}

func (s *summing) end() error {
	_, err := s.w.Write(s.sum.Sum(bytes.Clone(sumFrame)))
	return err
}

// summed is a reader that can tell whether what it read ended with that frame.
type summed struct {
	r    io.Reader
	sum  hash.Hash // of all but tail
	tail []byte    // the last bytes, as many as the frame has
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.tail = append(s.tail, p[:n]...)
	if more := len(s.tail) - sumSize; more > 0 {
		s.sum.Write(s.tail[:more])
		s.tail = append(s.tail[:0], s.tail[more:]...)
	}
	return n, err
}

// whole reads what is left, and compares.
func (s *summed) whole() bool {
	_, err := io.Copy(io.Discard, s)
	return (err == nil || errors.Is(err, io.EOF)) && bytes.Equal(s.tail, s.sum.Sum(bytes.Clone(sumFrame)))
}
