package mail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// writeFile writes a whole file under its name, or none: it is on the disk before
// it has the name, and whoever writes the same again replaces it.
func writeFile(dir, name string, b []byte) error {
	if err := replaceFile(dir, name, b); err != nil {
		return fmt.Errorf("%w: write %s: %w", ErrServer, name, err)
	}
	return nil
}

func replaceFile(dir, name string, b []byte) error {
	file, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
