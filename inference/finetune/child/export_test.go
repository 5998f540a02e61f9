package child

import "io"

// Parts that tests look at by themselves.
var (
	Share    = share
	EachLine = eachLine
)

// OpenTail opens a file that keeps the last half to whole of most bytes.
func OpenTail(path string, most int64) (io.Writer, func() error, error) {
	t, err := openTail(path, most)
	if err != nil {
		return nil, nil, err
	}
	return t, t.file.Close, nil
}
