// Command strangers writes head/strangers.bin, the vectors of head/strangers.txt.
// Run it in the engine's folder when that file has changed:
//
//	go run ./convert/strangers
package main

import (
	"context"
	"fmt"
	"math"
	"os"

	"freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
)

func main() {
	if err := write("head/strangers.bin"); err != nil {
		fmt.Fprintln(os.Stderr, "strangers:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	e, err := builtin.Load()
	if err != nil {
		return err
	}
	var out []byte
	for _, text := range head.Strangers() {
		v, err := e.Encode(context.Background(), head.Normalize(text))
		if err != nil {
			return err
		}
		for _, f := range v {
			n := math.Round(float64(f) * head.StrangerScale)
			if math.Abs(n) > math.MaxInt8 {
				return fmt.Errorf("%v doesn't fit into a byte", f)
			}
			out = append(out, byte(int8(n)))
		}
	}
	return os.WriteFile(path, out, 0o600)
}
