package finetune

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

func storeErr(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", what, ErrStore, err)
}

// Bounds of an artifact.
const (
	maxArtifactFiles = 1000
	cardFile         = "card.json"
	manifestFile     = "manifest.txt"
)

// artifact is what a run has made, as it lies in the object store: under a name that
// says what is in it, so that it never changes.
type artifact struct {
	prefix string
	sum    []byte
	bytes  int64
}

// store puts a folder's files under the job's prefix. Equal files give an equal
// artifact, so that doing it twice is once.
func (r *run) store(ctx context.Context, dir string, card map[string]any) (artifact, error) {
	if err := writeCard(filepath.Join(dir, cardFile), card); err != nil {
		return artifact{}, err
	}
	names, err := regularFiles(dir)
	if err != nil {
		return artifact{}, err
	}
	var manifest bytes.Buffer
	var total int64
	for _, name := range names {
		sum, size, err := hashFile(filepath.Join(dir, name))
		if err != nil {
			return artifact{}, err
		}
		total += size
		fmt.Fprintf(&manifest, "%s  %d  %s\n", hex.EncodeToString(sum), size, name)
	}
	sum := sha256.Sum256(manifest.Bytes())
	a := artifact{prefix: tenantdb.ModelPrefix(r.job.ID) + hex.EncodeToString(sum[:]) + "/", sum: sum[:], bytes: total}
	objects := r.cfg.Objects(r.item.Tenant)
	for _, name := range names {
		if err := putFile(ctx, objects, a.prefix+name, filepath.Join(dir, name)); err != nil {
			return artifact{}, err
		}
		r.cfg.At("uploading")
	}
	return a, storeErr("store manifest", objects.Put(ctx, a.prefix+manifestFile, &manifest))
}

// writeCard writes the model card: what the trainer says of the model, and what we
// do, which wins.
func writeCard(path string, card map[string]any) error {
	all := map[string]any{}
	b, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(b, &all) != nil {
		return &Failure{Code: CodeTrainer, Message: "The trainer's model card is no JSON object."}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read model card: %w", err)
	}
	maps.Copy(all, card)
	if b, err = json.MarshalIndent(all, "", "  "); err != nil {
		return fmt.Errorf("write model card: %w", err)
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

// regularFiles lists a folder's files, with slashes, in order. What is no file is
// refused: a link could name any file of the worker's.
func regularFiles(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return &Failure{Code: CodeTrainer, Message: "The trainer left something that is no file."}
		case len(names) == maxArtifactFiles:
			return &Failure{Code: CodeTrainer, Message: "The trainer left more than 1000 files."}
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	slices.Sort(names)
	return names, err
}

func hashFile(path string) ([]byte, int64, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, 0, fmt.Errorf("read artifact: %w", err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, 0, fmt.Errorf("read artifact: %w", err)
	}
	return h.Sum(nil), n, nil
}

func putFile(ctx context.Context, objects *blob.Objects, key, path string) error {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return fmt.Errorf("read artifact: %w", err)
	}
	defer func() { _ = f.Close() }()
	return storeErr("store artifact", objects.Put(ctx, key, f))
}

// getFile writes an object to a file.
func getFile(ctx context.Context, objects *blob.Objects, key, path string) error {
	body, _, err := objects.Get(ctx, key)
	if err != nil {
		return storeErr("fetch object", err)
	}
	defer func() { _ = body.Close() }()
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep object: %w", err)
	}
	from := &source{Reader: body}
	if _, err = io.Copy(f, from); from.failed {
		err = storeErr("fetch object", err)
	} else if err != nil {
		err = fmt.Errorf("keep object: %w", err)
	}
	return errors.Join(err, f.Close())
}

// What lies under a job's prefix beside its artifact.
const (
	checkpointsPrefix = "checkpoints/"
	stagingPrefix     = "staging/"
)

// sweep removes what a job has left in the object store but one artifact; keep is
// its prefix, and may be empty.
func (r *run) sweep(ctx context.Context, keep string) error {
	var stays []string
	if keep != "" {
		stays = []string{keep}
	}
	err := r.cfg.Objects(r.item.Tenant).DropPrefix(ctx, tenantdb.ModelPrefix(r.job.ID), stays...)
	return storeErr("remove what is left", err)
}

// restore fetches what earlier tries have saved.
func (r *run) restore(ctx context.Context, dir string) error {
	objects, prefix := r.cfg.Objects(r.item.Tenant), tenantdb.ModelPrefix(r.job.ID)+checkpointsPrefix
	var names []string
	err := objects.List(ctx, prefix, func(o blob.Object) error {
		names = append(names, strings.TrimPrefix(o.Key, prefix))
		return nil
	})
	if err != nil {
		return storeErr("look for checkpoints", err)
	}
	for _, name := range names {
		if !flat(name) {
			continue
		}
		if err := getFile(ctx, objects, prefix+name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// save keeps a file of the checkpoints' folder for the next try.
func (r *run) save(ctx context.Context, dir, name string) error {
	if !flat(name) {
		return &Failure{Code: CodeTrainer, Message: "The trainer saved a file outside of its folder."}
	}
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return &Failure{Code: CodeTrainer, Message: "The trainer saved something that is no file."}
	}
	err = putFile(ctx, r.cfg.Objects(r.item.Tenant), tenantdb.ModelPrefix(r.job.ID)+checkpointsPrefix+name, path)
	r.cfg.At("saved")
	return err
}

// flat reports whether name is a plain file's.
func flat(name string) bool {
	return name != "" && name == filepath.Base(name) && !strings.HasPrefix(name, ".") && !strings.ContainsAny(name, `/\`) && len(name) <= 200
}
