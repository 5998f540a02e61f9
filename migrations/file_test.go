package migrations_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"testing/fstest"

	"freehold/migrations"
)

// raw makes a file system of whole files.
func raw(bodies map[string]string) fstest.MapFS {
	made := fstest.MapFS{}
	for name, body := range bodies {
		made[name] = &fstest.MapFile{Data: []byte(body)}
	}
	return made
}

func TestFiles(t *testing.T) {
	t.Parallel()
	contract := "-- +goose Up\n-- freehold:needs 1\n-- freehold:contracts 2\n-- +goose NO TRANSACTION\nselect 1;\n-- +goose Down\n-- nothing\n"
	s := small(nil).With(raw(map[string]string{
		"00010_c.sql": contract,
		"00002_b.sql": "-- +goose Up\nselect 1;\n-- +goose Down\n-- +goose StatementBegin\nselect 2;\n-- +goose StatementEnd\n",
	}))
	all, err := s.Files()
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	b, c := all[0], all[1]
	if b.Version != 2 || b.Name != "00002_b.sql" || b.Needs != 2 || b.Contracts != 0 || b.NoTx || !b.HasDown {
		t.Errorf("b is %+v", b)
	}
	if c.Version != 10 || c.Needs != 1 || c.Contracts != 2 || !c.NoTx || c.HasDown || c.Body != contract || c.Sum != sha256.Sum256([]byte(contract)) {
		t.Errorf("c is %+v", c)
	}
	for version, want := range map[int64]int64{0: 0, 1: 0, 2: 2, 9: 2, 10: 2, 99: 2} {
		if got, err := s.Needs(version); got != want || err != nil {
			t.Errorf("needs of %d = %d, %v; want %d", version, got, err, want)
		}
	}
}

func TestOwnFiles(t *testing.T) {
	t.Parallel()
	for _, s := range []migrations.Set{migrations.Catalog(), migrations.Tenant()} {
		all, err := s.Files()
		if err != nil || int64(len(all)) != latest(t, s) {
			t.Errorf("%s: %d files, %v", s.Name, len(all), err)
		}
		for _, file := range all {
			if !file.HasDown {
				t.Errorf("%s migration %s can't be taken back", s.Name, file.Name)
			}
		}
	}
}

func TestWrongFiles(t *testing.T) {
	t.Parallel()
	s := small(nil).With(raw(map[string]string{
		"00001_a.sql": "select 1;",
		"00002_b.sql": "-- freehold:needs 9\n-- +goose Up\n-- +goose StatementBegin\nselect 1;",
		"00003_c.sql": "-- +goose Up\nselect 3;",
	}))
	all, err := s.Files()
	if err == nil || all != nil {
		t.Fatalf("%+v", all)
	}
	for _, want := range []string{"00001_a.sql: ", "00002_b.sql: ", "from 1 to 2", "missing '-- +goose StatementEnd'"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "00003") {
		t.Errorf("the good one is named: %v", err)
	}
	if _, err := s.Needs(3); err == nil || !strings.Contains(err.Error(), "00002_b.sql") {
		t.Errorf("needs: %v", err)
	}
	same := small(map[string]string{"00001_a.sql": "select 1;", "1_b.sql": "select 2;"})
	if _, err := same.Files(); err == nil || !strings.Contains(err.Error(), "1_b.sql") {
		t.Errorf("one number twice: %v", err)
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body             string
		needs, contracts int64
		wrong            string
	}{
		{body: "", needs: 7},
		{body: "-- +goose Up\nselect 1;", needs: 7},
		{body: "-- freehold:needs 5\n-- +goose Up\nselect 1;", needs: 5},
		{body: "-- +goose Up\r\n--freehold:needs  7  \r\n\r\n--   freehold:contracts 6\r\nselect 1;", needs: 7, contracts: 6},
		{body: "-- +goose Up\nselect 1; -- freehold:needs 5\n-- freehold:allow drop it is not used\n", needs: 7},
		{body: "-- see -- freehold:needs 5\n-- the freehold:needs\n", needs: 7},
		{body: "-- +goose Up\nselect 1;\n-- freehold:needs 5", wrong: "line 3: freehold:needs stands below"},
		{body: "/* a */\n-- freehold:contracts 5", wrong: "stands below"},
		{body: "-- freehold:needs 5\n-- freehold:needs 5", wrong: "line 2: freehold:needs stands there twice"},
		{body: "-- freehold:needs", wrong: `from 1 to 7, not ""`},
		{body: "-- freehold:needs 0", wrong: "from 1 to 7"},
		{body: "-- freehold:needs 8", wrong: "from 1 to 7"},
		{body: "-- freehold:needs -1", wrong: "from 1 to 7"},
		{body: "-- freehold:needs 5 or so", wrong: "from 1 to 7"},
		{body: "-- freehold:needs 99999999999999999999", wrong: "from 1 to 7"},
		{body: "-- freehold:contracts 7", wrong: "from 1 to 6"},
		{body: "-- freehold:need 5", wrong: "freehold:need is not known"},
		{body: "-- freehold: needs 5", wrong: "is not known"},
		{body: "-- freehold:needs 8\n-- freehold:contracts x", wrong: "freehold:contracts wants"},
	} {
		needs, contracts, err := migrations.ReadHeader(7, c.body)
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q: %v, want %q in it", c.body, err, c.wrong)
			}
		case err != nil || needs != c.needs || contracts != c.contracts:
			t.Errorf("%q: %d, %d, %v; want %d, %d", c.body, needs, contracts, err, c.needs, c.contracts)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("-- +goose Up\n-- freehold:needs 5\n-- freehold:contracts 3\nselect 1;")
	f.Add("-- freehold:\r\n--freehold:allow x y")
	f.Fuzz(func(t *testing.T, body string) {
		needs, contracts, err := migrations.ReadHeader(7, body)
		if err == nil && (needs < 1 || needs > 7 || contracts < 0 || contracts > 6) {
			t.Errorf("%d, %d", needs, contracts)
		}
	})
}
