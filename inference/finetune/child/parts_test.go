package child_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"freehold/inference/finetune/child"
)

func TestShare(t *testing.T) {
	t.Parallel()
	eight := []int{0, 1, 2, 3, 8, 9, 10, 11}
	for _, c := range []struct {
		all         []int
		cores, slot int
		want        []int
	}{
		{eight, 2, 0, []int{10, 11}},
		{eight, 2, 1, []int{8, 9}},
		{eight, 2, 3, []int{0, 1}},
		{eight, 2, 4, []int{10, 11}},
		{eight, 3, 1, []int{2, 3, 8}},
		{eight, 3, 2, []int{9, 10, 11}},
		{eight, 8, 1, eight},
		{eight, 9, 0, eight},
		{eight, 0, 5, eight},
		{[]int{7}, 1, 3, []int{7}},
		{nil, 1, 0, nil},
	} {
		if got := child.Share(c.all, c.cores, c.slot); !slices.Equal(got, c.want) {
			t.Errorf("%d cores for slot %d of %v: %v, want %v", c.cores, c.slot, c.all, got, c.want)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	whole, long := strings.Repeat("w", most), strings.Repeat("l", most+1)
	in := "a\n\n" + long + "\nb\r\n" + whole + "\n" + long + long + "\nc"
	for name, r := range map[string]io.Reader{"at once": strings.NewReader(in), "in halves": iotest.HalfReader(strings.NewReader(in))} {
		var got []string
		err := child.EachLine(r, func(line []byte) error { got = append(got, string(line)); return nil })
		if want := []string{"a", "", "b\r", whole, "c"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %d lines, want %d; %v", name, len(got), len(want), err)
		}
	}
	if err := child.EachLine(strings.NewReader(long), func([]byte) error { t.Error("a long line at the end"); return nil }); err != nil {
		t.Error(err)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	const most = 1000
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 20 {
		path := filepath.Join(t.TempDir(), "tail")
		w, done, err := child.OpenTail(path, most)
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for range n {
			p := make([]byte, rnd.IntN(700))
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
			all = append(all, p...)
			if k, err := w.Write(p); k != len(p) || err != nil {
				t.Fatal(k, err)
			}
		}
		if err := done(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || len(got) > most || len(got) < min(len(all), most/2) || !bytes.HasSuffix(all, got) {
			t.Errorf("kept %d of %d bytes, %v", len(got), len(all), err)
		}
	}
}
