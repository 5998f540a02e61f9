package app

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// devEnvFile is what a second terminal sources, in the data directory.
const devEnvFile = "dev.env"

// envVar is one line of it.
type envVar struct{ name, value string }

// writeEnv writes a file that a shell can source: `export NAME='value'`, each
// value literal. It is whole or not there at all, and only its owner reads it.
func writeEnv(path string, vars []envVar) error {
	var b strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&b, "export %s='%s'\n", v.name, strings.ReplaceAll(v.value, "'", `'\''`))
	}
	return writeFile(path, []byte(b.String()))
}

// readEnv reads what writeEnv wrote; a missing file is an empty one.
func readEnv(path string) (map[string]string, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimRight(line, "\n"), "export "), "=")
		if ok && len(value) >= 2 {
			vars[name] = strings.ReplaceAll(value[1:len(value)-1], `'\''`, "'")
		}
	}
	return vars, nil
}

// writeFile replaces a file at once, readable by its owner alone. The bytes are on
// the disk before they get the name: a machine that loses power keeps the old file
// or the new one, never an empty one.
func writeFile(path string, b []byte) error {
	if err := replaceFile(path, b); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

func replaceFile(path string, b []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// keepSecret reads the secret in a file, or makes one (32 random bytes) and
// writes it there.
func keepSecret(path string) (string, error) {
	s, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s = newSecret()
	return s, writeFile(path, []byte(s+"\n"))
}

// keepS3User is keepSecret for the object store's user.
func keepS3User(path string) (s3User, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		u := s3User{Access: "freehold-" + newSecret()[:12], Secret: newSecret()}
		b, err = json.Marshal(u)
		if err != nil {
			return s3User{}, fmt.Errorf("encode object store user: %w", err)
		}
		return u, writeFile(path, b)
	}
	if err != nil {
		return s3User{}, fmt.Errorf("read object store user: %w", err)
	}
	var u s3User
	if err := json.Unmarshal(b, &u); err != nil || u.Access == "" || u.Secret == "" {
		return s3User{}, fmt.Errorf("read object store user: %s is damaged", path)
	}
	return u, nil
}

func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)
}
