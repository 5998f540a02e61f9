package app_test

import (
	"testing"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/app"
)

// Dev's models are there once, and those of a data directory of before get their
// trainer; what else has become of them stays.
func TestDevModels(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cat, _ := catalogtest.Open(t)
	if _, err := cat.AddEngine(ctx, catalog.EngineSpec{Name: "builtin", Kind: "builtin"}); err != nil {
		t.Fatal(err)
	}
	if _, err := cat.AddModel(ctx, catalog.Model{Name: "freehold-answer-1", Engine: "builtin", Kind: "chat", InputPrice: "2"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := app.AddDevModels(ctx, cat); err != nil {
			t.Fatal(err)
		}
		list, err := cat.Models(ctx)
		if err != nil || len(list) != 2 || list[0].Trainer != "builtin" || list[0].InputPrice != "2" || list[1].Trainer != "" {
			t.Errorf("%+v: %v", list, err)
		}
	}
}
