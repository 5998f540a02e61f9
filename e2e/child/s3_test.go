package child_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"freehold/e2e/child"
)

func TestS3(t *testing.T) {
	t.Parallel()
	s3 := child.StartS3(t)
	object := "/" + s3.Bucket + "/a/b"
	for _, step := range []struct {
		method, path, body, secret string
		status                     int
		answer                     string
	}{
		{http.MethodGet, object, "", s3.SecretKey, 404, "NoSuchKey"},
		{http.MethodPut, object, "hello", s3.SecretKey, 200, ""},
		{http.MethodGet, object, "", s3.SecretKey, 200, "hello"},
		{http.MethodGet, object, "", "guessed", 403, "SignatureDoesNotMatch"},
		{http.MethodPut, object, "", "", 403, "AccessDenied"},
		{http.MethodPut, "/other/a", "x", s3.SecretKey, 404, "NoSuchBucket"},
	} {
		status, answer := call(t, s3, step.method, step.path, step.body, step.secret)
		if status != step.status || !strings.Contains(answer, step.answer) {
			t.Errorf("%s %s: got %d %q, want %d %q", step.method, step.path, status, answer, step.status, step.answer)
		}
	}
}

// call makes a request, signed when a secret is given. The signature is AWS's
// version 4 over the three headers that it demands.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
func call(t *testing.T, s3 child.S3, method, path, body, secret string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s3.Endpoint+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		sign(req, s3.AccessKey, secret)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func sign(req *http.Request, access, secret string) {
	const payload, headers = "UNSIGNED-PAYLOAD", "host;x-amz-content-sha256;x-amz-date"
	now := time.Now().UTC().Format("20060102T150405Z")
	scope := now[:8] + "/us-east-1/s3/aws4_request"
	canonical := fmt.Sprintf("%s\n%s\n\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s",
		req.Method, (&url.URL{Path: req.URL.Path}).EscapedPath(), req.URL.Host, payload, now, headers, payload)
	digest := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + secret)
	for _, part := range append(strings.Split(scope, "/"),
		"AWS4-HMAC-SHA256\n"+now+"\n"+scope+"\n"+hex.EncodeToString(digest[:])) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	req.Header.Set("X-Amz-Content-Sha256", payload)
	req.Header.Set("X-Amz-Date", now)
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x",
		access, scope, headers, key))
}
