package mail_test

import (
	"testing"

	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.MainLeak(m)
}
