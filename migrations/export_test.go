package migrations

// LockKey is the key of the lock that migrations of one database exclude each other by.
const LockKey = lockKey

// Skeleton is what New writes.
var Skeleton = string(skeleton)

// ReadHeader reads what a file's header says.
func ReadHeader(version int64, body string) (needs, contracts int64, err error) {
	h, err := readHeader(version, body)
	return h.needs, h.contracts, err
}

// ConcurrentBuild names the index that a statement builds concurrently.
func ConcurrentBuild(statement string) (schema, table, name string, ok bool) {
	b, ok := concurrentBuild(statement)
	return b.schema, b.table, b.name, ok
}
