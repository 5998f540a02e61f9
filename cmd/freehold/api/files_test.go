package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/cmd/freehold/rest/resttest"
)

// Files, as tenants of one node have them.
func TestFiles(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	t.Run("all", func(t *testing.T) {
		for name, run := range map[string]func(*testing.T, *drawer){
			"whole": testFiles, "another tenant's": testFilesOfAnotherTenant, "forms": testFileForms, "storage": testFileStorage,
			"client dies": testUploadBreaksOff, "store fails": testUploadStoreFails, "old truth": testUploadOnAnOldTruth,
			"at a time": testUploadsAtATime, "database fails": testUploadDatabaseFails, "jobs": testJobs,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, c.drawer(t))
			})
		}
	})
	// At last: new tenants begin at the fleet's lowest schema.
	t.Run("unavailable", func(t *testing.T) { testFilesUnavailable(t, c.drawer(t)) })
}

// A file is uploaded, listed, read and deleted, in OpenAI's shapes, and what was done
// stands in the audit.
func testFiles(t *testing.T, c *drawer) {
	large := strings.Repeat("0123456789abcdef", maxFile/16) // in two parts, and no byte too many
	f := uploaded(c.client, asGo(large, "fine-tune")...)
	if _, err := uuid.Parse(strings.TrimPrefix(f.ID, "file-")); err != nil || f.Object != "file" || f.Filename != "anonymous_file" ||
		f.Purpose != "fine-tune" || f.Status != "processed" || f.Bytes != maxFile || f.ExpiresAt != nil ||
		time.Since(time.Unix(f.CreatedAt, 0)) > time.Minute {
		t.Errorf("%+v", f)
	}
	small := uploaded(c.client, field{"purpose", "user_data", ""}, field{"expires_after[anchor]", "created_at", ""},
		field{"expires_after[seconds]", "3600", ""}, field{"file", "hello", `C:\data\fü "x".jsonl`})
	if small.Filename != `fü "x".jsonl` || small.ExpiresAt == nil || *small.ExpiresAt != small.CreatedAt+3600 || small.Purpose != "user_data" {
		t.Errorf("%+v", small)
	}
	empty := uploaded(c.client, field{"file", "", "../../etc/passwd"}, field{"purpose", "user_data", ""})
	if empty.Bytes != 0 || empty.Filename != "passwd" {
		t.Errorf("%+v", empty)
	}
	c.holds(3)

	var again fileAnswer
	c.client.Do("GET", "/v1/files/"+f.ID, "").Into(200, &again)
	if again.ID != f.ID || again.Bytes != f.Bytes || again.CreatedAt != f.CreatedAt {
		t.Errorf("read back: %+v", again)
	}
	content := "/v1/files/" + f.ID + "/content"
	if a := c.client.Do("GET", content, ""); a.Status != 200 || a.Body != large || !strings.HasPrefix(a.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("content: %d, %d bytes, %v", a.Status, len(a.Body), a.Header)
	}
	if a := c.client.Do("GET", content, "", "Range", "bytes=8388600-8388615"); a.Status != 206 || a.Body != large[8388600:8388616] {
		t.Errorf("range: %d %q", a.Status, a.Body)
	}
	if a := c.client.Do("HEAD", content, ""); a.Status != 200 || a.Header.Get("Content-Length") != fmt.Sprint(maxFile) {
		t.Errorf("HEAD: %d %v", a.Status, a.Header)
	}
	if a := c.client.Do("GET", "/v1/files/"+empty.ID+"/content", ""); a.Status != 200 || a.Body != "" {
		t.Errorf("empty: %d %q", a.Status, a.Body)
	}

	for query, want := range map[string][]string{
		"":                               {empty.ID, small.ID, f.ID},
		"?order=asc":                     {f.ID, small.ID, empty.ID},
		"?purpose=user_data":             {empty.ID, small.ID},
		"?purpose=fine-tune-results":     {},
		"?limit=10000&after=" + small.ID: {f.ID},
		"?order=asc&after=" + small.ID:   {empty.ID},
		"?order=asc&limit=2&purpose=":    {f.ID, small.ID},
		"?limit=1":                       {empty.ID},
	} {
		got, more := list(c.client, query)
		ids := make([]string, len(got))
		for i, f := range got {
			ids[i] = f.ID
		}
		if strings.Join(ids, " ") != strings.Join(want, " ") || more != (strings.Contains(query, "limit=1") && !strings.Contains(query, "10000") || strings.Contains(query, "limit=2")) {
			t.Errorf("%s: %v, more: %v", query, ids, more)
		}
	}
	for query, param := range map[string]string{"?limit=0": "limit", "?limit=10001": "limit", "?order=up": "order", "?purpose=batch": "purpose", "?after=x": "after"} {
		c.client.Do("GET", "/v1/files"+query, "").Refused(400, "invalid_request", param)
	}

	if a := c.client.Do("DELETE", "/v1/files/"+f.ID, ""); a.Status != 200 || a.Body != fmt.Sprintf(`{"id":%q,"object":"file","deleted":true}`, f.ID) {
		t.Errorf("delete: %d %s", a.Status, a.Body)
	}
	for _, path := range []string{"/v1/files/" + f.ID, content} {
		c.client.Do("GET", path, "").Refused(404, "not_found", "")
	}
	c.client.Do("DELETE", "/v1/files/"+f.ID, "").Refused(404, "not_found", "")
	c.holds(2)
	var done entries
	c.client.Do("GET", "/v1/audit", "").Into(200, &done)
	var acts []string
	for _, e := range done.Data {
		if strings.HasPrefix(e.Actor, "key:") {
			acts = append(acts, e.Action+" "+e.Subject)
		}
	}
	if got, want := strings.Join(acts, "; "), "file.delete "+f.ID+"; file.create "+empty.ID+"; file.create "+small.ID+"; file.create "+f.ID; got != want {
		t.Errorf("audit: %s\nwant %s", got, want)
	}
}

// Another tenant's file is answered as one that isn't there, to the byte.
func testFilesOfAnotherTenant(t *testing.T, c *drawer) {
	f := uploaded(c.client, asGo("secret", "fine-tune")...)
	_, other := c.tenant()
	none := "file-" + uuid.Must(uuid.NewV7()).String()
	for _, method := range []string{"GET", "DELETE", "HEAD"} {
		for _, tail := range []string{"", "/content"} {
			if method == "DELETE" && tail != "" {
				continue
			}
			theirs, missing := other.Do(method, "/v1/files/"+f.ID+tail, ""), other.Do(method, "/v1/files/"+none+tail, "")
			malformed := other.Do(method, "/v1/files/nothing"+tail, "")
			if theirs.Status != 404 || missing.Status != 404 || theirs.Body != missing.Body || malformed.Body != missing.Body || malformed.Status != 404 {
				t.Errorf("%s %s: %d %s, missing: %d %s", method, tail, theirs.Status, theirs.Body, missing.Status, missing.Body)
			}
		}
	}
	if files, _ := list(other, ""); len(files) != 0 {
		t.Errorf("listed: %+v", files)
	}
	if files, _ := list(other, "?order=asc&after="+none); len(files) != 0 {
		t.Errorf("listed: %+v", files)
	}
	if a := c.client.Do("GET", "/v1/files/"+f.ID+"/content", ""); a.Body != "secret" {
		t.Errorf("its own: %d %s", a.Status, a.Body)
	}
}

// A form that isn't as it should be is refused by name, and leaves nothing.
func testFileForms(t *testing.T, c *drawer) {
	file, purpose := field{"file", "abc", "a.jsonl"}, field{"purpose", "fine-tune", ""}
	seconds := func(n string) []field {
		return []field{file, purpose, {"expires_after[anchor]", "created_at", ""}, {"expires_after[seconds]", n, ""}}
	}
	for name, r := range map[string]struct {
		parts []field
		param string
	}{
		"no file":         {[]field{purpose}, "file"},
		"no purpose":      {[]field{file}, "purpose"},
		"nothing":         {nil, ""},
		"other purpose":   {[]field{file, {"purpose", "assistants", ""}}, "purpose"},
		"purpose first":   {[]field{{"purpose", "batch", ""}, file}, "purpose"},
		"results":         {[]field{file, {"purpose", "fine-tune-results", ""}}, "purpose"},
		"two files":       {[]field{file, file, purpose}, "file"},
		"two purposes":    {[]field{purpose, purpose, file}, "purpose"},
		"unknown":         {[]field{file, purpose, {"colour", "red", ""}}, "colour"},
		"unknown, hidden": {[]field{file, purpose, {"\x01", "red", ""}}, ""},
		"control":         {[]field{{"file", "abc", "a\u0085b"}, purpose}, "file"},
		"control byte":    {[]field{{"file", "abc", "a\x01b"}, purpose}, ""},
		"turned":          {[]field{{"file", "abc", "a\u202eb"}, purpose}, "file"},
		"not UTF-8":       {[]field{{"file", "abc", "a\xff"}, purpose}, "file"},
		"long name":       {[]field{{"file", "abc", strings.Repeat("n", 256)}, purpose}, "file"},
		"long purpose":    {[]field{file, {"purpose", strings.Repeat("p", 2000), ""}}, "purpose"},
		"too soon":        {seconds("3599"), "expires_after[seconds]"},
		"too late":        {seconds("2592001"), "expires_after[seconds]"},
		"no number":       {seconds("1e4"), "expires_after[seconds]"},
		"no anchor":       {[]field{file, purpose, {"expires_after[seconds]", "3600", ""}}, "expires_after[anchor]"},
		"other anchor":    {[]field{file, purpose, {"expires_after[anchor]", "now", ""}}, "expires_after[anchor]"},
		"anchor alone":    {[]field{file, purpose, {"expires_after[anchor]", "created_at", ""}}, "expires_after[seconds]"},
		"many parts":      {[]field{file, purpose, file, file, file, file, file, file, file, file}, "file"},
	} {
		if name == "nothing" {
			c.client.Do("POST", "/v1/files", "--x--\r\n", "Content-Type", "multipart/form-data; boundary=x").Refused(400, "invalid_request", "file")
			continue
		}
		a := upload(c.client, r.parts...)
		if a.Refused(400, "invalid_request", r.param); t.Failed() {
			t.Fatalf("%s: %s", name, a.Body)
		}
		said := strings.Contains(a.Body, "fine-tune and user_data") && strings.Contains(a.Body, "batch")
		if name == "purpose first" && !said {
			t.Errorf("what would be taken isn't said: %s", a.Body)
		}
	}
	c.client.Do("POST", "/v1/files", `{}`).Refused(415, "unsupported_media_type", "")
	body, media := form(asGo("abc", "fine-tune")...)
	c.client.Do("POST", "/v1/files", body[:len(body)-10], "Content-Type", media).Refused(400, "invalid_request", "")
	c.client.Do("POST", "/v1/files", body, "Content-Type", "multipart/form-data; boundary=other").Refused(400, "invalid_request", "")
	upload(c.client, asGo(strings.Repeat("x", maxFile+1), "fine-tune")...).Refused(413, "request_too_large", "file")
	upload(c.client, asGo(strings.Repeat("x", maxFile+2<<20), "fine-tune")...).Refused(413, "request_too_large", "")
	c.holds(0)
}

// Without a store, and before the tenant's database is migrated, files wait.
func testFilesUnavailable(t *testing.T, c *drawer) {
	bare := c.bare()
	upload(bare.client, asGo("abc", "fine-tune")...).Refused(503, "store_unavailable", "")
	id := "/v1/files/file-" + uuid.Must(uuid.NewV7()).String()
	bare.client.Do("GET", id+"/content", "").Refused(503, "store_unavailable", "")
	bare.client.Do("DELETE", id, "").Refused(503, "store_unavailable", "")
	bare.schema(bare.catalog(), 4, 0)
	for _, a := range []resttest.Answer{
		upload(bare.client, asGo("abc", "fine-tune")...), bare.client.Do("GET", "/v1/files", ""), bare.client.Do("GET", id, ""),
		bare.client.Do("GET", id+"/content", ""), bare.client.Do("DELETE", id, ""),
	} {
		a.Refused(503, "tenant_upgrading", "")
		if a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

// Storage is bounded: said before the bytes are read where their length alone says
// it, and exactly by all uploads together.
func testFileStorage(t *testing.T, c *drawer) {
	c.limit(1000)
	full := func(a resttest.Answer) {
		t.Helper()
		a.Refused(429, "insufficient_quota", "file")
		if a.Header.Get("X-Should-Retry") != "false" || a.Header.Get("Retry-After") != "" {
			t.Errorf("headers: %v", a.Header)
		}
	}
	full(upload(c.client, asGo(strings.Repeat("x", 1001), "fine-tune")...))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/v1/files", strings.NewReader(strings.Repeat("x", 9<<20)))
	c.OK(err)
	req.Header.Set("Authorization", "Bearer "+c.client.Token)
	req.Header.Set("Content-Type", "application/x-nothing") // what it holds isn't looked at
	resp, err := http.DefaultTransport.RoundTrip(req)
	c.OK(err)
	if got := code(resp.Body); resp.StatusCode != 429 || got != "insufficient_quota" {
		t.Errorf("by its length: %d %s", resp.StatusCode, got)
	}
	_ = resp.Body.Close()
	// Four at a time of 300 bytes: three of them fit.
	answers := make(chan int, 4)
	for range 4 {
		go func() { answers <- upload(c.client, asGo(strings.Repeat("x", 300), "user_data")...).Status }()
	}
	counted := map[int]int{}
	for range 4 {
		counted[<-answers]++
	}
	if counted[200] != 3 || counted[429] != 1 {
		t.Errorf("answers: %v", counted)
	}
	c.holds(3)
	full(upload(c.client, asGo(strings.Repeat("x", 101), "fine-tune")...))
	f := uploaded(c.client, asGo(strings.Repeat("x", 100), "fine-tune")...)
	c.client.Do("DELETE", "/v1/files/"+f.ID, "")
	if uploaded(c.client, asGo(strings.Repeat("x", 100), "fine-tune")...).Bytes != 100 {
		t.Error("what was deleted takes up room")
	}
	c.client.With(c.Key(c.acme, catalog.ScopeRead)).Do("GET", "/v1/files", "").Refused(403, "insufficient_scope", "")
}
