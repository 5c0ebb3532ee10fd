package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dapr/dapr/pkg/resiliency"
	"github.com/dapr/kit/logger"
)

// What a service needs may be unavailable for days. Its sidecar must retry as long: an event that it gives up becomes a dead letter.
func TestResiliency_ADeliveryIsTriedForAsLongAsItTakes(t *testing.T) {
	log := logger.NewLogger("tested")
	log.SetOutputLevel(logger.FatalLevel)
	_, scopes, _ := strings.Cut(read(t, "../../components/events/resiliency.yaml"), "\nscopes:\n")
	services := strings.Fields(strings.ReplaceAll(scopes, "- ", ""))
	if len(services) == 0 {
		t.Fatal("the policy is nobody's")
	}
	for _, service := range services {
		loaded := resiliency.LoadLocalResiliency(log, service, "../../components/events")
		if len(loaded) == 0 {
			t.Errorf("no resiliency for %s", service)
			continue
		}
		policy := resiliency.FromConfigurations(log, loaded...).ComponentInboundPolicy("pubsub", resiliency.Pubsub)
		synctest.Test(t, func(t *testing.T) { // time passes by itself
			const outage = 72 * time.Hour
			began := time.Now()
			tried, longest := began, time.Duration(0)
			_, err := resiliency.NewRunner[any](context.Background(), policy)(func(context.Context) (any, error) {
				longest = max(longest, time.Since(tried))
				tried = time.Now()
				if time.Since(began) < outage {
					return nil, errors.New("the store is unavailable")
				}
				return nil, nil
			})
			if err != nil {
				t.Errorf("%s: given up after %v: %v", service, time.Since(began), err)
			}
			if longest > 2*time.Second {
				t.Errorf("%s: a delivery waits for %v when all is well again", service, longest)
			}
		})
	}
}
