//go:build unix && !linux

package rest

import "syscall"

// hungUp peeks: an end of file shows, unless unread bytes stand before it (under
// TLS they always do; there the pings of a stream find out).
func hungUp(fd uintptr) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n == 0 && err == nil || err == syscall.ECONNRESET //nolint:errorlint // an errno, as it came
}
