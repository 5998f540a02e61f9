package router_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// A server whose certificate is judged otherwise is another target: no connection
// that was made under the old judgement is used under the new one.
func TestInvalidate_RenewsAPoolWhoseTLSChanged(t *testing.T) {
	t.Parallel()
	const host = "db.test"
	roots := encrypt(t, host)
	others := x509.NewCertPool()
	others.AddCert(selfSigned(t, host).Leaf)
	s := setup(t, 1, nil)
	id := s.ids[0]
	judge := func(c *tls.Config) (epoch int64) {
		c.ServerName, c.MinVersion = host, tls.VersionTLS12
		return s.book.change(id, func(r *catalog.Route) { r.Config.TLSConfig = c })
	}
	trusting := s.visit(t, id, judge(&tls.Config{InsecureSkipVerify: true}))
	s.refused(t, id, judge(&tls.Config{RootCAs: others}), tenantdb.Interactive, tenantdb.ErrUnavailable)
	verified := s.visit(t, id, judge(&tls.Config{RootCAs: roots}))
	if verified == trusting {
		t.Error("the connection that nobody had verified is still in use")
	}
	same := roots.Clone()
	if s.visit(t, id, judge(&tls.Config{RootCAs: same})) != verified {
		t.Error("renewed although nothing changed")
	}
	s.refused(t, id, judge(&tls.Config{RootCAs: others}), tenantdb.Interactive, tenantdb.ErrUnavailable)
}

// encrypt has the tests' server offer TLS beside plain connections, with a
// certificate for host, and returns who is to be believed.
func encrypt(t *testing.T, host string) *x509.CertPool {
	t.Helper()
	cert := selfSigned(t, host)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		"server.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		// Written by the server itself: it refuses a key that others can read.
		lines := "'" + strings.Join(strings.Split(strings.TrimSpace(string(pem.EncodeToMemory(block))), "\n"), "', '") + "'"
		superExec(t, `copy (select unnest(array[`+lines+`])) to program 'umask 077; cat > `+name+`'`)
	}
	superExec(t, `alter system set ssl = on`)
	superExec(t, `select pg_reload_conf()`)
	soon(t, "encrypted", func() bool { return super(t, `select (current_setting('ssl') = 'on')::int`) == 1 })
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return pool
}

func selfSigned(t *testing.T, host string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
