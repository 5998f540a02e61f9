package catalog

import (
	"crypto/rand"
	"hash/crc32"
	"math/big"
)

// A key is fh_<id>_<secret>: an id of 12 base62 characters, then 32 random bytes
// in 43 of them, then the CRC-32 of everything before it in 6. The checksum
// keeps nobody out; it tells a mistyped key without a look-up. An operator's token
// is the same behind fho_.
const (
	keyPrefix      = "fh_"
	operatorPrefix = "fho_"

	idLen       = 12
	secretLen   = 43
	checksumLen = 6
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ParseKey returns the id of a well-formed API key, whose checksum fits; every
// other text is ErrInvalidKey. The id shares the token's memory.
func ParseKey(token string) (id string, err error) { return parseToken(keyPrefix, token) }

func parseToken(prefix, token string) (id string, err error) {
	secretAt := len(prefix) + idLen + 1
	checksumAt := secretAt + secretLen
	if len(token) != checksumAt+checksumLen || token[:len(prefix)] != prefix || token[secretAt-1] != '_' {
		return "", ErrInvalidKey
	}
	id = token[len(prefix) : secretAt-1]
	if !isBase62(id) || !isBase62(token[secretAt:]) {
		return "", ErrInvalidKey
	}
	if want := checksum(token[:checksumAt]); string(want[:]) != token[checksumAt:] {
		return "", ErrInvalidKey
	}
	return id, nil
}

// newToken makes a key that was never used before.
func newToken() (id, token string) { return makeToken(keyPrefix) }

func makeToken(prefix string) (id, token string) {
	var random [40]byte
	rand.Read(random[:]) // never fails: it ends the process instead
	// 62^12 is a little more than 2^71: 64 bits fit.
	id = encode62(random[:8], idLen)
	token = prefix + id + "_" + encode62(random[8:], secretLen)
	sum := checksum(token)
	return id, token + string(sum[:])
}

func checksum(s string) (out [checksumLen]byte) {
	sum := crc32.ChecksumIEEE([]byte(s))
	for i := checksumLen - 1; i >= 0; i-- {
		out[i] = base62[sum%62]
		sum /= 62
	}
	return out
}

// encode62 writes a big-endian number in exactly n digits.
func encode62(b []byte, n int) string {
	out := make([]byte, n)
	v, digit, sixtyTwo := new(big.Int).SetBytes(b), new(big.Int), big.NewInt(62)
	for i := n - 1; i >= 0; i-- {
		v.DivMod(v, sixtyTwo, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}

func isBase62(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
