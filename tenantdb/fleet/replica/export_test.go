package replica

// ByKeys is c with each table so large that its changes are compared row by row.
func (c Compared) ByKeys() Compared {
	tables := append([]Verified(nil), c.Tables...)
	for i := range tables {
		tables[i].Bytes = 1 << 50
	}
	c.Tables = tables
	return c
}

// Decode reads a message behind one that names table 1, with the key in its first
// column. It returns how many keys it found and their size together.
func Decode(message []byte) (keys, size int, err error) {
	d := &decoder{
		relations: map[uint32]relation{1: {name: "t", key: []int{0}}},
		changed:   func(_ string, k rowKey, _ uint64) { keys++; size += len(k) },
		whole:     func(string, uint64) {},
	}
	err = d.take(message)
	return keys, size, err
}
