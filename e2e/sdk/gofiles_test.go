//go:build e2e

package sdk_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
)

// goFiles uploads, lists, reads and deletes files.
func goFiles(t *testing.T, c goClient) {
	const content = `{"messages": []}` + "\n"
	plain, err := c.Files.New(t.Context(), openai.FileNewParams{File: strings.NewReader(content), Purpose: openai.FilePurposeFineTune})
	if err != nil {
		t.Fatal(err)
	}
	//nolint:staticcheck // status is deprecated there, and a client of Python waits for it
	if plain.Filename != "anonymous_file" || plain.Bytes != int64(len(content)) || plain.Object != "file" || plain.Status != "processed" ||
		plain.Purpose != "fine-tune" || plain.CreatedAt == 0 || plain.ExpiresAt != 0 {
		t.Errorf("got %s", plain.RawJSON())
	}
	named, err := c.Files.New(t.Context(), openai.FileNewParams{
		File:    openai.File(strings.NewReader(strings.Repeat("x", 9<<20)), `what "is" this.bin`, "application/octet-stream"),
		Purpose: openai.FilePurposeUserData, ExpiresAfter: openai.FileNewParamsExpiresAfter{Seconds: 7200},
	})
	if err != nil {
		t.Fatal(err)
	}
	if named.Filename != `what "is" this.bin` || named.ExpiresAt != named.CreatedAt+7200 || named.Bytes != 9<<20 {
		t.Errorf("got %s", named.RawJSON())
	}
	var ids []string
	pages := c.Files.ListAutoPaging(t.Context(), openai.FileListParams{Limit: openai.Int(1), Order: openai.FileListParamsOrderAsc})
	for pages.Next() {
		ids = append(ids, pages.Current().ID)
	}
	if err := pages.Err(); err != nil || strings.Join(ids, " ") != plain.ID+" "+named.ID {
		t.Errorf("listed %v, %v", ids, err)
	}
	got, err := c.Files.Get(t.Context(), plain.ID)
	if err != nil || got.ID != plain.ID || got.Bytes != plain.Bytes {
		t.Errorf("got %+v, %v", got, err)
	}
	resp, err := c.Files.Content(t.Context(), plain.ID)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || string(text) != content {
		t.Errorf("content %q, %v", text, err)
	}
	for _, id := range ids {
		gone, err := c.Files.Delete(t.Context(), id)
		if err != nil || !gone.Deleted || gone.ID != id {
			t.Errorf("got %+v, %v", gone, err)
		}
	}
	c.door.reset()
	for _, ask := range []func() error{
		func() error { _, err := c.Files.Get(t.Context(), plain.ID); return err },
		func() error {
			resp, err := c.Files.Content(t.Context(), plain.ID)
			if err == nil {
				_ = resp.Body.Close()
			}
			return err
		},
		func() error { _, err := c.Files.Delete(t.Context(), plain.ID); return err },
	} {
		if e := new(openai.Error); !errors.As(ask(), &e) || e.StatusCode != http.StatusNotFound || e.Code != "not_found" {
			t.Errorf("got %v", e)
		}
	}
	_, err = c.Files.New(t.Context(), openai.FileNewParams{File: strings.NewReader("x"), Purpose: openai.FilePurposeVision})
	if e := new(openai.Error); !errors.As(err, &e) || e.StatusCode != http.StatusBadRequest || e.Param != "purpose" || !strings.Contains(e.Message, "fine-tune") {
		t.Errorf("another purpose: %v", err)
	}
	if n := len(c.door.counted()); n != 4 {
		t.Errorf("%d attempts, want 4", n)
	}
}
