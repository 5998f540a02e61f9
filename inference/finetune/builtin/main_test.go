package builtin_test

import (
	"testing"

	"go.uber.org/goleak"

	"freehold/inference/finetune/builtin"
	"freehold/inference/finetune/child"
)

func TestMain(m *testing.M) {
	child.Guard()
	builtin.Main()
	goleak.VerifyTestMain(m)
}
