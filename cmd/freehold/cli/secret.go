package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"
)

// secret reads a secret from a file, or from standard input when path is "-" (at
// a terminal it asks, without echo). Secrets are never arguments: a process list
// shows those.
func (e *env) secret(path, what string) (string, error) {
	if path != "-" {
		b, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return "", fmt.Errorf("read %s: %w", what, err)
		}
		return oneLine(b, what)
	}
	if f, ok := e.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(e.err, "%s: ", what)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(e.err)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", what, err)
		}
		return oneLine(b, what)
	}
	b, err := io.ReadAll(io.LimitReader(e.stdin, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	return oneLine(b, what)
}

func oneLine(b []byte, what string) (string, error) {
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return "", fmt.Errorf("%w: %s is empty", errUsage, what)
	}
	if strings.ContainsAny(s, "\r\n") {
		return "", fmt.Errorf("%w: %s has more than one line", errUsage, what)
	}
	return s, nil
}

var errNoSecretInURL = errors.New("the URL holds a password: leave it out and give --password-file FILE, or - for standard input")
