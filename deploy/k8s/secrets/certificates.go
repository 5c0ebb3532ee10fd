package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"
)

// validity of all certificates made here.
const validity = 2 * 365 * 24 * time.Hour

// ensureCertificate makes name.crt and name.key for the hosts, signed by the authority in ca.crt, which is made first if
// it is missing. It returns how many files it made.
func (f folder) ensureCertificate(name string, hosts []string) (made int, err error) {
	if _, err := os.Stat(f.path(name + ".crt")); !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	authority, signer, made, err := f.authority()
	if err != nil {
		return made, fmt.Errorf("the authority that signs %s: %w", name, err)
	}
	template := newCertificate(hosts[0])
	template.DNSNames = hosts
	template.KeyUsage = x509.KeyUsageDigitalSignature
	// A server of NATS is a client of the others.
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return made + 2, f.sign(name, template, authority, signer)
}

// authority reads the one that signs the others, or makes it.
func (f folder) authority() (*x509.Certificate, *ecdsa.PrivateKey, int, error) {
	made := 0
	if _, err := os.Stat(f.path("ca.crt")); errors.Is(err, fs.ErrNotExist) {
		template := newCertificate("boxoffice infrastructure")
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage = x509.KeyUsageCertSign
		if err := f.sign("ca", template, nil, nil); err != nil {
			return nil, nil, made, err
		}
		made = 2
	}
	certificate, err := readPEM(f.path("ca.crt"), x509.ParseCertificate)
	if err != nil {
		return nil, nil, made, err
	}
	key, err := readPEM(f.path("ca.key"), x509.ParseECPrivateKey)
	return certificate, key, made, err
}

func newCertificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(validity),
	}
}

// sign writes name.key and name.crt; without a signer the certificate signs itself.
func (f folder) sign(name string, template, by *x509.Certificate, signer *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if signer == nil {
		by, signer = template, key
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := f.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})); err != nil {
		return err
	}
	return f.write(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
}

func readPEM[T any](path string, parse func([]byte) (T, error)) (T, error) {
	var none T
	text, err := os.ReadFile(path)
	if err != nil {
		return none, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return none, fmt.Errorf("%s is not PEM", path)
	}
	return parse(block.Bytes)
}
