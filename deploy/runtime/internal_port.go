package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffegrpc/grpccredentials"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"

	"github.com/dapr/dapr/pkg/security"
	spiffecontext "github.com/dapr/kit/crypto/spiffe/context"
)

// callersVariable names apps, with commas between them, whose sidecars may connect to this one's internal port; * is all.
const callersVariable = "INTERNAL_CALLERS"

// ownCallers restricts the internal gRPC port of a sidecar with mTLS to sidecars of the same app. Dapr's own daprd accepts
// every certificate there: access control then covers CallLocal, but neither CallActor nor CallActorReminder, so any
// service's sidecar could make another service handle an actor call. Here services do not call each other, so only replicas of
// one app need the port, for their actors.
type ownCallers struct {
	security.Handler
	svid    x509svid.Source
	anchors x509bundle.Source
	callers []string
}

// restrictCallers returns the handler unchanged if there is no mTLS.
func restrictCallers(ctx context.Context, handler security.Handler, anchors x509bundle.Source) (security.Handler, error) {
	if !handler.MTLSEnabled() || anchors == nil {
		return handler, nil
	}
	svid, ok := spiffecontext.X509From(handler.WithSVIDContext(ctx))
	if !ok {
		return nil, errors.New("this sidecar has no identity")
	}
	return &ownCallers{Handler: handler, svid: svid, anchors: anchors, callers: strings.FieldsFunc(os.Getenv(callersVariable), func(r rune) bool {
		return r == ',' || r == ' '
	})}, nil
}

// GRPCServerOptionMTLS overrides that of Dapr, which the server of the internal port alone uses.
func (o *ownCallers) GRPCServerOptionMTLS() grpc.ServerOption {
	return grpc.Creds(grpccredentials.MTLSServerCredentials(o.svid, o.anchors, tlsconfig.AdaptMatcher(o.may)))
}

func (o *ownCallers) may(caller spiffeid.ID) error {
	own := o.ID()
	if caller == own {
		return nil
	}
	for _, app := range o.callers {
		if app == "*" || caller.TrustDomain() == own.TrustDomain() && caller.Path() == path.Join(path.Dir(own.Path()), app) {
			return nil
		}
	}
	return fmt.Errorf("%s may not call %s", caller, own)
}
