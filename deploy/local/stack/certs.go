package stack

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
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates are the files that MakeCertificates makes.
type Certificates struct {
	// Trusted is a folder with only the certificate of the authority. Sidecars trust the certificates in the folders of SSL_CERT_DIR, in
	// addition to those of the system.
	Trusted string
	// Authority is that certificate.
	Authority string
	// Server and ServerKey are for all servers, PEM. Only the owner can read the key.
	Server, ServerKey string
}

func certificatesIn(folder string) Certificates {
	return Certificates{
		Trusted:   filepath.Join(folder, "trusted"),
		Authority: filepath.Join(folder, "trusted", "ca.pem"),
		Server:    filepath.Join(folder, "server.pem"),
		ServerKey: filepath.Join(folder, "server-key.pem"),
	}
}

const (
	certificatesFolder = "certs" // in the state folder
	// trustVariable names folders of trusted certificates, for all programs written in Go (except on macOS and Windows).
	trustVariable   = "SSL_CERT_DIR"
	certificateTime = 365 * 24 * time.Hour
	// renewTime before the end of a certificate a new one is made.
	renewTime = 30 * 24 * time.Hour
)

// MakeCertificates makes an authority, and a certificate that it signed for servers on this machine (localhost, 127.0.0.1, ::1) and on
// the given hosts, which are names or IP addresses. If the folder already contains a certificate for these hosts that is valid for
// thirty more days, it changes nothing. The authority's key is not kept: a new server certificate needs a new authority.
func MakeCertificates(folder string, hosts ...string) (Certificates, error) {
	files := certificatesIn(folder)
	hosts = append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	if goodCertificates(files, hosts) {
		return files, nil
	}
	if err := os.MkdirAll(files.Trusted, 0o755); err != nil {
		return files, err
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	begin := time.Now().Add(-time.Hour) // another clock may be slow
	authority := &x509.Certificate{
		SerialNumber: serialNumber(), Subject: pkix.Name{CommonName: "box office, local authority"},
		NotBefore: begin, NotAfter: time.Now().Add(certificateTime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	server := &x509.Certificate{
		SerialNumber: serialNumber(), Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: begin, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, host)
		}
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return files, fmt.Errorf("make the authority's certificate: %w", err)
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, authority, key.Public(), authorityKey)
	if err != nil {
		return files, fmt.Errorf("make the servers' certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return files, err
	}
	return files, errors.Join(
		os.WriteFile(files.ServerKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		os.WriteFile(files.Server, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serverDER}), 0o644),
		os.WriteFile(files.Authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER}), 0o644),
	)
}

func serialNumber() *big.Int {
	number, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // never fails
	return number
}

// goodCertificates reports whether the servers' certificate is for all of the hosts, and stays valid for renewTime.
func goodCertificates(files Certificates, hosts []string) bool {
	pool, err := authorities(files.Authority)
	if err != nil {
		return false
	}
	text, err := os.ReadFile(files.Server)
	if err != nil {
		return false
	}
	if _, err := os.Stat(files.ServerKey); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return false
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false
	}
	for _, host := range hosts {
		_, err := certificate.Verify(x509.VerifyOptions{Roots: pool, DNSName: host, CurrentTime: time.Now().Add(renewTime)})
		if err != nil {
			return false
		}
	}
	return true
}

// authorities reads a file of trusted certificates.
func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}
