package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	commonpb "github.com/dapr/dapr/pkg/proto/common/v1"
	internalpb "github.com/dapr/dapr/pkg/proto/internals/v1"
	placementpb "github.com/dapr/dapr/pkg/proto/placement/v1"
	runtimepb "github.com/dapr/dapr/pkg/proto/runtime/v1"
	schedulerpb "github.com/dapr/dapr/pkg/proto/scheduler/v1"
	sentrypb "github.com/dapr/dapr/pkg/proto/sentry/v1"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpctls "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/event"
)

// dialAs connects to a gRPC port, with TLS unless certificate is nil. Like an attacker, it does not verify the server.
func dialAs(t *testing.T, address string, certificate *tls.Certificate) *grpc.ClientConn {
	t.Helper()
	secure := insecure.NewCredentials()
	if certificate != nil {
		secure = grpctls.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*certificate}})
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(secure))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// selfSigned makes a certificate that no authority has signed.
func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// certificateFromSentry requests a certificate of an app.
func certificateFromSentry(t *testing.T, s *testStack, request *sentrypb.SignCertificateRequest) (*tls.Certificate, error) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	request.CertificateSigningRequest = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	conn, err := grpc.NewClient(s.SentryAddress(), grpc.WithTransportCredentials(grpctls.NewTLS(&tls.Config{InsecureSkipVerify: true})))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	response, err := sentrypb.NewCAClient(conn).SignCertificate(ctx, request)
	if err != nil {
		return nil, err
	}
	certificate := &tls.Certificate{PrivateKey: key}
	for rest := response.GetWorkloadCertificate(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certificate, nil
		}
		certificate.Certificate = append(certificate.Certificate, block.Bytes)
	}
}

// identityToken returns the token that an app's sidecar sends to sentry.
func identityToken(t *testing.T, s *testStack, app string) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.Identity(app), "token"))
	require.NoError(t, err)
	return string(token)
}

// certificateOf requests a certificate with an app's own token, as an attacker would who controls the app.
func certificateOf(t *testing.T, s *testStack, app string) *tls.Certificate {
	t.Helper()
	certificate, err := certificateFromSentry(t, s, &sentrypb.SignCertificateRequest{
		Id: app, Namespace: "default", Token: identityToken(t, s, app), TokenValidator: sentrypb.SignCertificateRequest_JWKS,
	})
	require.NoError(t, err)
	return certificate
}

func TestForgery_SentryRequiresTheAppsToken(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	token := identityToken(t, s, "payments")
	parts := strings.Split(token, ".")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signedByOther := parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(parts[0]+"."+parts[1])))
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	request := func(validator sentrypb.SignCertificateRequest_TokenValidator, id, domain, token string) error {
		_, err := certificateFromSentry(t, s, &sentrypb.SignCertificateRequest{Id: id, Namespace: "default", TrustDomain: domain, Token: token, TokenValidator: validator})
		return err
	}

	for _, validator := range []sentrypb.SignCertificateRequest_TokenValidator{
		sentrypb.SignCertificateRequest_UNKNOWN, sentrypb.SignCertificateRequest_INSECURE, sentrypb.SignCertificateRequest_KUBERNETES, sentrypb.SignCertificateRequest_JWKS,
	} {
		for what, wrong := range map[string]string{"none": "", "nonsense": "nonsense", "another key": signedByOther, "no signature": unsigned, "another app": identityToken(t, s, "orders")} {
			require.Error(t, request(validator, "payments", "", wrong), "%s, %s", validator, what)
		}
	}
	require.Error(t, request(sentrypb.SignCertificateRequest_JWKS, "orders", "", token), "for another app")
	require.Error(t, request(sentrypb.SignCertificateRequest_JWKS, "dapr-scheduler", "localhost", token), "for the control plane")
	require.Error(t, request(sentrypb.SignCertificateRequest_JWKS, "payments", "localhost", token), "in the control plane's trust domain")
	require.NoError(t, request(sentrypb.SignCertificateRequest_JWKS, "payments", "", token), "its own")
}

// internalCalls are all calls between sidecars, with contents that would do harm.
func internalCalls(t *testing.T, o client.Order) map[string]func(context.Context, *grpc.ClientConn) error {
	t.Helper()
	paid := event.Payment{ID: unknownID, OrderID: o.ID, UserID: o.UserID, StripeID: "pi_forged", Status: "authorized", Amount: 4200, Currency: "usd", Version: 1}
	body := []byte(bulkDelivery("events.payments", forged(paid.Event("payment.created"))))
	calls := map[string]func(context.Context, *grpc.ClientConn) error{}
	invocation := func(method string, body []byte) *internalpb.InternalInvokeRequest {
		return &internalpb.InternalInvokeRequest{
			Ver: internalpb.APIVersion_V1,
			Metadata: map[string]*internalpb.ListStringValue{
				"content-type": {Values: []string{"application/json"}}, ":authority": {Values: []string{"localhost"}},
			},
			Message: &commonpb.InvokeRequest{
				Method: method, Data: &anypb.Any{Value: body}, ContentType: "application/json",
				HttpExtension: &commonpb.HTTPExtension{Verb: commonpb.HTTPExtension_POST},
			},
		}
	}
	for _, method := range []string{"events", "job/reconcile", "letters", "healthz"} {
		calls["CallLocal "+method] = func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := internalpb.NewServiceInvocationClient(conn).CallLocal(ctx, invocation(method, body))
			return err
		}
		calls["CallLocalStream "+method] = func(ctx context.Context, conn *grpc.ClientConn) error {
			stream, err := internalpb.NewServiceInvocationClient(conn).CallLocalStream(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&internalpb.InternalInvokeRequestStream{Request: invocation(method, nil), Payload: &commonpb.StreamPayload{Data: body}})
			_ = stream.CloseSend()
			_, err = stream.Recv()
			return err
		}
	}
	slot := fmt.Sprintf("%d.0", o.ExpiresAt.Add(time.Second-1).Unix())
	actor := func(method string) *internalpb.InternalInvokeRequest {
		request := invocation(method, []byte(`{}`))
		request.Actor = &internalpb.Actor{ActorType: "OrderExpiration", ActorId: slot}
		return request
	}
	calls["CallActor"] = func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := internalpb.NewServiceInvocationClient(conn).CallActor(ctx, actor("Expire"))
		return err
	}
	calls["CallActor remind"] = func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := internalpb.NewServiceInvocationClient(conn).CallActor(ctx, actor("remind/expire"))
		return err
	}
	calls["CallActorStream"] = func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := internalpb.NewServiceInvocationClient(conn).CallActorStream(ctx, actor("Expire"))
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	calls["CallActorReminder"] = func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := internalpb.NewServiceInvocationClient(conn).CallActorReminder(ctx, &internalpb.Reminder{
			ActorType: "OrderExpiration", ActorId: slot, Name: "expire", Period: "1s", DueTime: "0s",
		})
		return err
	}
	return calls
}

// requireCertificateRefused requires that the server at an address refuses the certificate in the TLS handshake.
func requireCertificateRefused(t *testing.T, address string, certificate tls.Certificate) {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{certificate}})
	if err == nil { // with TLS 1.3, the server refuses the certificate after the handshake
		defer func() { _ = conn.Close() }()
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(waitLimit)))
		for err == nil {
			_, err = conn.Read(make([]byte, 1024))
		}
	}
	require.ErrorContains(t, err, "remote error: tls: ")
	require.ErrorContains(t, err, "certificate")
}

// daprd adds its app's token to every internal call that it accepts, so it must accept calls of its own app only.
func TestForgery_InternalPortsRefuseOtherApps(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, unpaid := s.reserveNew(t, 4200)
	listed := s.ticketBecomes(t, "reserved", unpaid.Ticket.ID)
	callers := map[string]*tls.Certificate{"without TLS": nil, "without a certificate": {}, "self-signed": selfSigned(t)}
	for _, service := range services() {
		callers[service] = certificateOf(t, s, service)
	}

	for _, service := range services() {
		for who, certificate := range callers {
			if who != service && certificate != nil {
				requireCertificateRefused(t, s.SidecarInternal(service), *certificate)
			}
			conn := dialAs(t, s.SidecarInternal(service), certificate)
			for what, call := range internalCalls(t, unpaid) {
				ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
				err := call(ctx, conn)
				cancel()
				switch {
				case who != service:
					require.Equal(t, codes.Unavailable, status.Code(err), "%s, %s at %s's sidecar must not connect: %v", who, what, service, err)
				case strings.HasPrefix(what, "CallLocal"):
					require.Equal(t, codes.PermissionDenied, status.Code(err), "%s, %s at its own sidecar: %v", who, what, err)
				default:
					require.NotEqual(t, codes.Unavailable, status.Code(err), "%s, %s reaches its own sidecar: %v", who, what, err)
				}
			}
		}
	}

	require.Equal(t, unpaid, buyer.order(t, unpaid.ID))
	require.Equal(t, listed, s.ticket(t, listed.ID))
	require.Empty(t, s.ledger(t, unpaid.ID))
}

// apiCalls are the calls of a sidecar's HTTP API that have an effect.
func apiCalls(t *testing.T, o client.Order) []forgedRequest {
	t.Helper()
	paid := event.Payment{ID: unknownID, OrderID: o.ID, UserID: o.UserID, StripeID: "pi_forged", Status: "authorized", Amount: 4200, Currency: "usd", Version: 1}
	body := forged(paid.Event("payment.created"))
	calls := []forgedRequest{
		{"GET", "/v1.0/metadata", ""}, {"PUT", "/v1.0/metadata/a", "b"}, {"POST", "/v1.0/shutdown", ""},
		{"POST", "/v1.0/state/state", `[{"key":"forged","value":1}]`}, {"GET", "/v1.0/state/state/forged", ""}, {"DELETE", "/v1.0/state/state/forged", ""},
		{"POST", "/v1.0/state/state/bulk", `{"keys":["forged"]}`},
		{"POST", "/v1.0/state/state/transaction", `{"operations":[{"operation":"upsert","request":{"key":"forged","value":1}}]}`},
		{"GET", "/v1.0/secrets/secrets/jwt-signing-key", ""}, {"GET", "/v1.0/secrets/secrets/pass-signing-key", ""}, {"GET", "/v1.0/secrets/secrets/bulk", ""}, {"GET", "/v1.0/secrets/infrastructure/nats-url", ""},
		{"POST", "/v1.0-alpha1/jobs/reconcile", `{"schedule":"@every 1s"}`}, {"DELETE", "/v1.0-alpha1/jobs/reconcile", ""},
		{"PUT", "/v1.0/actors/OrderExpiration/1.0/method/Expire", `{}`}, {"GET", "/v1.0/actors/OrderExpiration/1.0/state/a", ""},
		{"POST", "/v1.0/actors/OrderExpiration/1.0/reminders/expire", `{"dueTime":"0s"}`}, {"POST", "/v1.0/bindings/a", `{}`},
	}
	for topic := range map[string]bool{"events.payments": true, "events.orders": true, "retry.orders": true} {
		calls = append(calls,
			forgedRequest{"POST", "/v1.0/publish/pubsub/" + topic, body},
			forgedRequest{"POST", "/v1.0/publish/pubsub/" + topic + "?metadata.rawPayload=true", body},
			forgedRequest{"POST", "/v1.0/publish/bulk/pubsub/" + topic, `[{"entryId":"1","event":` + body + `,"contentType":"application/json"}]`},
		)
	}
	for _, service := range services() {
		calls = append(calls, forgedRequest{"POST", "/v1.0/invoke/" + service + "/method/events", bulkDelivery("events.payments", body)})
	}
	return calls
}

func TestForgery_SidecarsRequireTheirToken(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, unpaid := s.reserveNew(t, 4200)
	events := s.stream(t)
	events.waitIdle(t)

	for _, service := range services() {
		another := s.SidecarToken("orders")
		if service == "orders" {
			another = s.SidecarToken("payments")
		}
		for _, token := range []string{"", "nonsense", another, s.AppToken(service), s.Secret("DAPR_API_TOKEN")} {
			for _, call := range apiCalls(t, unpaid) {
				// text/plain is what a web page can make a browser post without a preflight request.
				for _, contentType := range []string{"application/cloudevents+json", "text/plain"} {
					r := s.request(t, call.method, s.SidecarHTTP(service)+call.path, call.body, "dapr-api-token", token,
						"Content-Type", contentType, "Origin", "https://evil.example", "Authorization", "Bearer "+token)
					require.Equal(t, http.StatusUnauthorized, r.Status, "%s %s at %s's sidecar with %q: %s", call.method, call.path, service, token, r.Body)
				}
			}
			conn := dialAs(t, s.SidecarGRPC(service), nil)
			for what, call := range grpcCalls() {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "dapr-api-token", token)
				err := call(ctx, runtimepb.NewDaprClient(conn))
				require.Contains(t, []codes.Code{codes.Unauthenticated, codes.Unimplemented}, status.Code(err), "%s at %s's sidecar with %q: %v", what, service, token, err)
			}
		}
	}
	require.Equal(t, unpaid, buyer.order(t, unpaid.ID))
	require.Empty(t, s.ledger(t, unpaid.ID))
	for _, one := range events.read() {
		require.NotContains(t, string(one.Data), "pi_forged")
	}
}

// grpcCalls are the calls of a sidecar's gRPC API that have an effect.
func grpcCalls() map[string]func(context.Context, runtimepb.DaprClient) error {
	return map[string]func(context.Context, runtimepb.DaprClient) error{
		"PublishEvent": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.PublishEvent(ctx, &runtimepb.PublishEventRequest{PubsubName: "pubsub", Topic: "events.payments", Metadata: map[string]string{"rawPayload": "true"}})
			return err
		},
		"BulkPublishEvent": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.BulkPublishEvent(ctx, &runtimepb.BulkPublishRequest{PubsubName: "pubsub", Topic: "events.payments"})
			return err
		},
		"InvokeService": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.InvokeService(ctx, &runtimepb.InvokeServiceRequest{Id: "orders", Message: &commonpb.InvokeRequest{Method: "events"}})
			return err
		},
		"SaveState": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.SaveState(ctx, &runtimepb.SaveStateRequest{StoreName: "state", States: []*commonpb.StateItem{{Key: "forged"}}})
			return err
		},
		"ExecuteStateTransaction": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.ExecuteStateTransaction(ctx, &runtimepb.ExecuteStateTransactionRequest{StoreName: "state"})
			return err
		},
		"GetSecret": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.GetSecret(ctx, &runtimepb.GetSecretRequest{StoreName: "secrets", Key: "jwt-signing-key"})
			return err
		},
		"RegisterActorReminder": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.RegisterActorReminder(ctx, &runtimepb.RegisterActorReminderRequest{ActorType: "OrderExpiration", ActorId: "1.0", Name: "expire", DueTime: "0s"})
			return err
		},
		"InvokeActor": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.InvokeActor(ctx, &runtimepb.InvokeActorRequest{ActorType: "OrderExpiration", ActorId: "1.0", Method: "Expire"})
			return err
		},
		"ScheduleJob": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.ScheduleJob(ctx, &runtimepb.ScheduleJobRequest{Job: &runtimepb.Job{Name: "reconcile"}})
			return err
		},
		"SubscribeTopicEvents": func(ctx context.Context, c runtimepb.DaprClient) error {
			stream, err := c.SubscribeTopicEventsAlpha1(ctx)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"GetMetadata": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.GetMetadata(ctx, &runtimepb.GetMetadataRequest{})
			return err
		},
		"Shutdown": func(ctx context.Context, c runtimepb.DaprClient) error {
			_, err := c.Shutdown(ctx, &runtimepb.ShutdownRequest{})
			return err
		},
	}
}

// With its token, a service can use the APIs that it needs, and no others. It cannot call other services.
func TestForgery_SidecarsOfferOnlyWhatTheirServiceNeeds(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, unpaid := s.reserveNew(t, 4200)
	statusOf := func(service, method, path, body string) int {
		return s.request(t, method, s.SidecarHTTP(service)+path, body, "dapr-api-token", s.SidecarToken(service)).Status
	}
	for _, service := range services() {
		// For an API that is not allowed, daprd returns 404 on HTTP, and Unimplemented on gRPC.
		require.Equal(t, 404, statusOf(service, "POST", "/v1.0/invoke/orders/method/events", `{}`), service)
		require.Equal(t, 404, statusOf(service, "POST", "/v1.0/shutdown", ""), service)
		require.Equal(t, 403, statusOf(service, "GET", "/v1.0/secrets/infrastructure/nats-url", ""), service)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "dapr-api-token", s.SidecarToken(service))
		client := runtimepb.NewDaprClient(dialAs(t, s.SidecarGRPC(service), nil))
		for _, what := range []string{"InvokeService", "Shutdown", "SubscribeTopicEvents"} {
			require.Equal(t, codes.Unimplemented, status.Code(grpcCalls()[what](ctx, client)), "%s: %s", service, what)
		}
		if service != "expiration" {
			require.Equal(t, 404, statusOf(service, "PUT", "/v1.0/actors/OrderExpiration/1.0/method/Expire", `{}`), service)
			require.Equal(t, codes.Unimplemented, status.Code(grpcCalls()["InvokeActor"](ctx, client)), service)
		}
	}
	require.Equal(t, unpaid, buyer.order(t, unpaid.ID))
}

func TestForgery_PlacementAndSchedulerRequireACertificate(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	job := func(certificate *tls.Certificate, app string) error {
		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		due := "1h"
		_, err := schedulerpb.NewSchedulerClient(dialAs(t, s.SchedulerAddress(), certificate)).ScheduleJob(ctx, &schedulerpb.ScheduleJobRequest{
			Name: "forged", Job: &schedulerpb.Job{DueTime: &due},
			Metadata: &schedulerpb.JobMetadata{AppId: app, Namespace: "default", Target: &schedulerpb.JobTargetMetadata{Type: &schedulerpb.JobTargetMetadata_Job{Job: &schedulerpb.TargetJob{}}}},
		})
		return err
	}
	host := func(certificate *tls.Certificate, app string) error {
		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		stream, err := placementpb.NewPlacementClient(dialAs(t, s.PlacementAddress(), certificate)).ReportDaprStatus(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&placementpb.Host{Name: "127.0.0.1:1", Id: app, Namespace: "default", Entities: []string{"Forged"}})
		_, err = stream.Recv()
		return err
	}
	tickets := certificateOf(t, s, "tickets")

	for who, certificate := range map[string]*tls.Certificate{"without TLS": nil, "without a certificate": {}, "self-signed": selfSigned(t)} {
		require.Equal(t, codes.Unavailable, status.Code(job(certificate, "orders")), who)
		require.Equal(t, codes.Unavailable, status.Code(host(certificate, "expiration")), who)
	}
	require.Equal(t, codes.PermissionDenied, status.Code(job(tickets, "orders")), "for another app")
	require.Equal(t, codes.PermissionDenied, status.Code(host(tickets, "expiration")), "for another app")
	require.NoError(t, job(tickets, "tickets"), "for itself")
}

func TestForgery_BrokerRequiresCredentials(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	if s.Set() == stack.SetRedis {
		t.Skip("TestTopics_BrokerRefusesOtherServicesTopics covers it, and the user default is off")
	}
	address := s.Broker()
	options := []nats.Option{nats.MaxReconnects(0)}
	if address.Authority != "" {
		options = append(options, nats.RootCAs(address.Authority))
	}
	for _, user := range []string{"", "orders", "orders:wrong", "boxoffice:boxoffice"} {
		name, password, _ := strings.Cut(user, ":")
		conn, err := nats.Connect("nats://"+address.Host(), append(options, nats.UserInfo(name, password))...)
		require.ErrorIs(t, err, nats.ErrAuthorization, user)
		require.Nil(t, conn)
	}
}

// listeningPorts returns the local addresses of the TCP ports on which a process listens, as the kernel writes them.
func listeningPorts(t *testing.T, pid int) (ports []string) {
	t.Helper()
	sockets := map[string]bool{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, "socket:[") {
			sockets[strings.Trim(to, "socket:[]")] = true
		}
	}
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			const listening = "0A"
			if fields := strings.Fields(line); len(fields) > 9 && fields[3] == listening && sockets[fields[9]] {
				ports = append(ports, fields[1])
			}
		}
	}
	return ports
}

// A client that could write into the scheduler's etcd could trigger reminders and jobs.
func TestForgery_SchedulersEtcdIsNotReachable(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Skip("needs /proc")
	}
	require.Len(t, listeningPorts(t, s.Process(stack.Scheduler).PID()), 2, "its API and its health check")
	sockets := 0
	require.NoError(t, filepath.Walk(filepath.Join(s.Folder(), stack.StateFolder), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode()&os.ModeSocket != 0 {
			sockets++
			folder, err := os.Stat(filepath.Dir(path))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o700), folder.Mode().Perm(), path)
		}
		return nil
	}))
	require.Equal(t, 2, sockets)
}
