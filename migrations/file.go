package migrations

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// File is one migration of a set.
type File struct {
	Version int64
	Name    string
	Body    string
	Sum     [sha256.Size]byte // of Body

	// Needs is the lowest latest version that a binary may have and still serve a
	// database with this migration: its own, unless its header says "freehold:needs".
	Needs int64
	// Contracts, when above 0, says that the migration takes away what the release
	// before the one with that version still used ("freehold:contracts"): it has to
	// wait until no such node is alive and no tenant is below that version.
	Contracts int64

	NoTx    bool // it runs without a transaction
	HasDown bool // it has statements that take it back
}

// Files are the migrations of the set, in order. Where some are wrong, the error
// names each with what is wrong, and the files are nil.
func (s Set) Files() ([]File, error) {
	all, err := s.list()
	if err != nil {
		return nil, err
	}
	files := make([]File, 0, len(all))
	var wrong []error
	for _, m := range all {
		body, err := s.read(m.name)
		if err != nil {
			return nil, err
		}
		file, _, err := newFile(m, body)
		if err != nil {
			wrong = append(wrong, err)
		}
		files = append(files, file)
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	return files, nil
}

// Needs is the lowest latest version that a binary may have to serve a database
// which has the set's migrations up to version. 0 is no demand.
func (s Set) Needs(version int64) (needs int64, err error) {
	all, err := s.list()
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		if m.version > version {
			break
		}
		body, err := s.read(m.name)
		if err != nil {
			return 0, err
		}
		h, err := readHeader(m.version, body)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", m.name, err)
		}
		needs = max(needs, h.needs)
	}
	return needs, nil
}

func (s Set) read(name string) (string, error) {
	body, err := fs.ReadFile(s.FS, name)
	if err != nil {
		return "", fmt.Errorf("read %s migration: %w", s.Name, err)
	}
	return string(body), nil
}

// newFile is the file with what it says of itself. The error names it.
func newFile(m numbered, body string) (File, script, error) {
	h, headErr := readHeader(m.version, body)
	sql, sqlErr := parseScript(m.name, body)
	file := File{
		Version: m.version, Name: m.name, Body: body, Sum: sha256.Sum256([]byte(body)),
		Needs: h.needs, Contracts: h.contracts, NoTx: sql.noTx, HasDown: len(sql.down) > 0,
	}
	if err := errors.Join(headErr, sqlErr); err != nil {
		return file, sql, fmt.Errorf("%s: %w", m.name, err)
	}
	return file, sql, nil
}

// header is what the comments at a file's head say to Freehold.
type header struct {
	needs, contracts int64
}

// directive begins a comment that says something to Freehold.
const directive = "freehold:"

// readHeader reads the directives of a file:
//
//	-- freehold:needs N
//	-- freehold:contracts N
//
// each once at most, and above the first statement, where people look for them: below
// it they are mistakes. "freehold:allow" is the linter's and may stand anywhere.
func readHeader(version int64, body string) (h header, err error) {
	var wrong []error
	head := true
	seen := map[string]bool{}
	for n, line := range strings.Split(body, "\n") {
		line = strings.TrimSpace(line)
		comment, found := strings.CutPrefix(line, "--")
		if !found {
			head = head && line == ""
			continue
		}
		comment, found = strings.CutPrefix(strings.TrimSpace(comment), directive)
		if !found {
			continue
		}
		word, value, _ := strings.Cut(comment, " ")
		if word == "allow" {
			continue
		}
		again := seen[word]
		seen[word] = true
		if err := h.set(version, word, strings.TrimSpace(value), head, again); err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %s%s %w", n+1, directive, word, err))
		}
	}
	if h.needs == 0 {
		h.needs = version
	}
	return h, errors.Join(wrong...)
}

func (h *header) set(version int64, word, value string, head, again bool) error {
	highest := version
	switch word {
	case "needs":
	case "contracts":
		highest-- // no database could have its own version before
	default:
		return errors.New("is not known")
	}
	if !head {
		return errors.New("stands below the first statement")
	}
	if again {
		return errors.New("stands there twice")
	}
	number, err := strconv.ParseUint(value, 10, 63)
	if err != nil || number == 0 || int64(number) > highest {
		return fmt.Errorf("wants a version from 1 to %d, not %q", highest, value)
	}
	if word == "needs" {
		h.needs = int64(number)
	} else {
		h.contracts = int64(number)
	}
	return nil
}
