package blob_test

import (
	"fmt"
	"os"
	"testing"

	"freehold/tenantdb/blob/blobtest"
)

// endpoint is the store that every test of this process uses.
var endpoint string

func TestMain(m *testing.M) {
	at, stop, err := blobtest.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	endpoint = at
	code := m.Run()
	stop()
	os.Exit(code)
}
