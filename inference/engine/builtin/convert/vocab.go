package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// reserved ids come first and have the score 0.
const reserved = 6

// lostScores are the pieces whose score the package has lost.
var lostScores = strings.Fields(": :// ▁: ▁:) :30 ▁:( ): :00 ▁:-)")

// repair turns vocab.json into vocab.tsv.
func repair(vocab []byte) ([]byte, error) {
	var rows [][]any
	if err := json.Unmarshal(vocab, &rows); err != nil {
		return nil, err
	}
	scores := make([]float64, len(rows))
	lost := make([]bool, len(rows))
	for i, row := range rows {
		if len(row) != 2 {
			return nil, fmt.Errorf("id %d: want [piece, score]", i)
		}
		piece, ok := row[0].(string)
		if !ok || strings.ContainsAny(piece, "\t\n") {
			return nil, fmt.Errorf("id %d: bad piece", i)
		}
		score, ok := row[1].(float64)
		scores[i] = score
		lost[i] = i >= reserved && (!ok || score >= 0)
		if lost[i] != slices.Contains(lostScores, piece) {
			return nil, fmt.Errorf("id %d, %q: score %v was not expected", i, piece, row[1])
		}
	}
	var out bytes.Buffer
	for i, row := range rows {
		if lost[i] {
			scores[i] = (neighbour(scores, lost, i, -1) + neighbour(scores, lost, i, +1)) / 2
		}
		out.WriteString(row[0].(string))
		out.WriteByte('\t')
		out.WriteString(strconv.FormatFloat(scores[i], 'g', 8, 64))
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// neighbour is the nearest sound score on one side of i.
func neighbour(scores []float64, lost []bool, i, step int) float64 {
	for i += step; lost[i]; i += step {
	}
	return scores[i]
}
