//go:build e2e

package pgcontainer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

// withTLS makes a certificate that signs itself, keeps it as CAFile, and has the
// image's set-up install it: only there the files come to belong to the server,
// as it demands of its key.
func (s *Server) withTLS(t testing.TB) testcontainers.ContainerCustomizer {
	t.Helper()
	cert, key := selfSigned(t)
	s.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.CAFile, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	script := `umask 077
cat >"$PGDATA/server.crt" <<'EOF'
` + string(cert) + `EOF
cat >"$PGDATA/server.key" <<'EOF'
` + string(key) + `EOF
echo 'ssl = on' >>"$PGDATA/postgresql.conf"
`
	return testcontainers.WithFiles(testcontainers.ContainerFile{
		Reader:            strings.NewReader(script),
		ContainerFilePath: "/docker-entrypoint-initdb.d/tls.sh",
		FileMode:          0o755,
	})
}

func selfSigned(t testing.TB) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "freehold e2e"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"localhost"},
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}
