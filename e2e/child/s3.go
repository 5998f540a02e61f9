package child

import (
	"crypto/rand"
	"testing"
	"time"
)

// S3 is an object store of its own process, with one empty bucket and one
// account.
type S3 struct {
	Endpoint, Bucket, AccessKey, SecretKey string
	// Process is the store, for tests that stop it.
	Process *Process
}

// StartS3 starts an object store on loopback and returns when it serves. It ends,
// and its objects are removed, with the test.
func StartS3(t testing.TB) S3 {
	t.Helper()
	bin := Build(t, "./e2e/s3server")
	addr := FreeAddr()
	s := S3{
		Endpoint:  "http://" + addr,
		Bucket:    "freehold-e2e",
		AccessKey: "e2e-" + rand.Text()[:12],
		SecretKey: rand.Text(),
	}
	s.Process = Start(t, Config{
		Path: bin,
		Args: []string{addr, t.TempDir(), s.Bucket},
		Env:  s.credentials(),
	})
	s.Process.WaitReady(t, nil, s.Endpoint+"/healthz", 15*time.Second)
	return s
}

// Env is the environment with which Freehold finds the store.
func (s S3) Env() []string {
	return append(s.credentials(),
		"FREEHOLD_S3_ENDPOINT="+s.Endpoint,
		"FREEHOLD_S3_BUCKET="+s.Bucket,
		"AWS_REGION=us-east-1",
		// The SDK otherwise looks for files of whoever runs the test.
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	)
}

func (s S3) credentials() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey}
}
