package migrations_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freehold/migrations"
)

// folder makes a folder of files.
func folder(t *testing.T, bodies map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range bodies {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const okBody = "-- +goose Up\ncreate schema shop;\n-- +goose Down\ndrop schema shop;\n"

func TestReadDir(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"00001_shop.sql":           okBody,
		"00007_later.sql":          "-- +goose Up\ncreate table shop.t ();\n",
		"20260102030405_dated.sql": "-- +goose Up\nselect 1;\n",
		"README.md":                "about it",
		"00003_old.sql.bak":        "nothing",
	})
	s, err := migrations.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Files()
	if err != nil || len(all) != 3 || all[0].Body != okBody || !all[0].HasDown || all[1].Version != 7 || latest(t, s) != 20260102030405 {
		t.Fatalf("%+v, %v", all, err)
	}
	// As the catalog keeps it and gives it back.
	cfg := emptyDatabase(t)
	if result := apply(t, cfg, migrations.Product(all).UpTo(7)); result.To != 7 {
		t.Errorf("%+v", result)
	}
	// What the folder becomes later is not looked at.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if result := apply(t, cfg, s); result.From != 7 || !slices.Equal(result.Applied, []string{"20260102030405_dated.sql"}) {
		t.Errorf("%+v", result)
	}
	if v, err := migrations.Version(t.Context(), connect(t, cfg), migrations.Product(nil)); v != 20260102030405 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
}

func TestReadDirEmpty(t *testing.T) {
	t.Parallel()
	s, err := migrations.ReadDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.Files(); len(all) != 0 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
	if v, err := s.Latest(); v != 0 || err != nil {
		t.Errorf("latest %d, %v", v, err)
	}
	if v, err := s.Needs(3); v != 0 || err != nil {
		t.Errorf("needs %d, %v", v, err)
	}
	if _, err := migrations.ReadDir(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a folder that isn't there was read")
	}
}

func TestReadDirNamesEveryMistake(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"00001_good.sql":     okBody,
		"00001_same.sql":     okBody,
		"shop.sql":           okBody,
		"0002_short.sql":     okBody,
		"00002_Upper.sql":    okBody,
		"00003_upper.SQL":    okBody,
		"00000_zero.sql":     okBody,
		"00004_big.sql":      strings.Repeat("-", 1<<20+1),
		"00005_noup.sql":     "create schema shop;\n",
		"00006_empty.sql":    "-- +goose Up\n-- later\n",
		"00007_open.sql":     "-- +goose Up\n-- +goose StatementBegin\nselect 1;\n",
		"00008_half.sql":     "-- +goose Up\nselect 1\n",
		"00009_binary.sql":   "-- +goose Up\nselect '\xff';\n",
		"00010_zero.sql":     "-- +goose Up\nselect '\x00';\n",
		"00011_env.sql":      "-- +goose ENVSUB ON\n-- +goose Up\nselect '${HOME}';\n",
		"00012_head.sql":     "-- +goose Up\nselect 1;\n-- freehold:needs 3\n",
		"00013_word.sql":     "-- +goose Upp\nselect 1;\n",
		"00014_fine.sql":     okBody,
		"00099_fine.sql.txt": "no",
	})
	if err := os.Mkdir(filepath.Join(dir, "00015_dir.sql"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := migrations.ReadDir(dir)
	if err == nil {
		t.Fatal("all was well")
	}
	text := err.Error()
	for _, want := range []string{
		"00001_same.sql: has the number of 00001_good.sql", "\nshop.sql: is not named", "0002_short.sql: is not named",
		"00002_Upper.sql: is not named", "00003_upper.SQL: is not named", "00000_zero.sql: is not named",
		"00004_big.sql: is larger", "00005_noup.sql: failed to parse", "00006_empty.sql: has no statement in its Up",
		"00007_open.sql: failed to parse migration: missing '-- +goose StatementEnd'", "00008_half.sql: failed to parse",
		"00009_binary.sql: is not UTF-8", "00010_zero.sql: is not UTF-8", "00011_env.sql: ENVSUB",
		"00012_head.sql: line 3: freehold:needs stands below", "00013_word.sql: failed to parse", "00015_dir.sql: is not a file",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "fine") || strings.Contains(text, "good.sql: ") {
		t.Errorf("good ones are named in\n%s", text)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "er")
	for i, want := range []string{"00001_shop.sql", "00002_shop.sql"} {
		path, err := migrations.New(dir, "shop")
		if err != nil || path != filepath.Join(dir, want) {
			t.Fatalf("%d: %s, %v", i, path, err)
		}
	}
	body, err := os.ReadFile(filepath.Join(dir, "00002_shop.sql"))
	if err != nil || string(body) != migrations.Skeleton {
		t.Errorf("%q, %v", body, err)
	}
	for _, name := range []string{"", "Shop", "9lives", "a-b", "a/b", "../a", "a.sql", strings.Repeat("a", 61)} {
		if path, err := migrations.New(dir, name); err == nil {
			t.Errorf("%q gave %s", name, path)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "00041_far.sql"), []byte(okBody), 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := migrations.New(dir, "a_2"); err != nil || filepath.Base(path) != "00042_a_2.sql" {
		t.Errorf("after a gap: %s, %v", path, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%v, %v", entries, err)
	}
	if _, err := migrations.New(filepath.Join(dir, "00041_far.sql"), "a"); err == nil {
		t.Error("a file is taken for a folder")
	}
}

// The skeleton can be filled in by taking its comments away, and says nothing to
// goose before that is done.
func TestSkeleton(t *testing.T) {
	t.Parallel()
	s := migrations.Product([]migrations.File{{Name: "00005_new.sql", Body: migrations.Skeleton}})
	all, err := s.Files()
	if err != nil || all[0].NoTx || all[0].HasDown || all[0].Needs != 5 || all[0].Contracts != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	dir := folder(t, map[string]string{"00005_new.sql": migrations.Skeleton})
	if _, err := migrations.ReadDir(dir); err == nil || !strings.Contains(err.Error(), "no statement in its Up") {
		t.Errorf("as it is: %v", err)
	}
	cfg := emptyDatabase(t)
	filled := strings.NewReplacer("--   ", "").Replace(migrations.Skeleton)
	if filled == migrations.Skeleton {
		t.Fatal("nothing to fill in")
	}
	up, rest, inTwo := strings.Cut(filled, "set lock_timeout")
	index, _, ends := strings.Cut(rest, "--\n")
	_, back, hasDown := strings.Cut(rest, "-- +goose Down\n")
	if !inTwo || !ends || !hasDown {
		t.Fatal("the skeleton has other parts")
	}
	tx := up + "-- +goose Down\n" + back
	concurrent := noTx + "-- +goose Up\nset lock_timeout" + index + "-- +goose Down\n"
	made := migrations.Product([]migrations.File{{Name: "00001_t.sql", Body: tx}, {Name: "00002_i.sql", Body: concurrent}})
	if result := apply(t, cfg, made); result.To != 2 {
		t.Errorf("%+v", result)
	}
	if !query[bool](t, cfg, "select to_regclass('shop.orders_created') is not null and has_table_privilege('freehold_tenant', 'shop.orders', 'insert')") {
		t.Error("it makes something else than it says")
	}
	exec(t, cfg, "delete from product.schema_version where version_id = 2")
	if result, err := down(cfg, made, 0); err != nil || query[bool](t, cfg, "select to_regnamespace('shop') is not null") {
		t.Errorf("back: %+v, %v", result, err)
	}
}

func TestProductIsAFileSystem(t *testing.T) {
	t.Parallel()
	s := migrations.Product([]migrations.File{{Name: "00002_b.sql", Body: okBody}, {Name: "00001_a.sql", Body: okBody}})
	names, err := fs.Glob(s.FS, "*.sql")
	if err != nil || !slices.Equal(names, []string{"00001_a.sql", "00002_b.sql"}) {
		t.Errorf("%v, %v", names, err)
	}
	body, err := fs.ReadFile(s.FS, "00002_b.sql")
	if err != nil || string(body) != okBody {
		t.Errorf("%q, %v", body, err)
	}
	info, err := fs.Stat(s.FS, "00002_b.sql")
	if err != nil || info.Size() != int64(len(okBody)) || info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := fs.Stat(s.FS, "00003_c.sql"); err == nil {
		t.Error("what isn't there was found")
	}
}
