package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// The steps of "Write a service in an hour" (services/contracts/README.md), in a copy of the run file and its components. What the
// page shows is added as it stands there.
func TestPythonService_CountsSales(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "the page describes this set")
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}
	guide, err := os.ReadFile(filepath.Join(root(t), "services/contracts/README.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	require.Len(t, blocks, 2, "the app, and its subscription")
	app, subscription := blocks[0][1], blocks[1][1]

	folder := copyOfRunFile(t)
	edit := func(file string, change func(text string) string) {
		path := filepath.Join(folder, file)
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		after := change(strings.TrimRight(string(before), "\n") + "\n")
		require.NotEqual(t, string(before), after, file)
		require.NoError(t, os.WriteFile(path, []byte(after), 0o600))
	}
	edit("dapr.yaml", func(text string) string { return text + app })
	inScopes := func(text string) string { return text + "  - sales\n" }
	edit("components/embedded/state.yaml", inScopes)
	edit("components/events/resiliency.yaml", inScopes)
	edit("components/embedded/pubsub.yaml", func(text string) string {
		return inScopes(strings.NewReplacer(
			"dead.catalogue,\n", "dead.catalogue, dead.sales,\n",
			"retry.catalogue\n    - name: publishingScopes", "retry.catalogue, retry.sales\n    - name: publishingScopes",
			"        auth=events.users;", "        sales=dead.sales;\n        auth=events.users;",
			"        auth=;", "        sales=events.orders, retry.sales;\n        auth=;",
			"dead.catalogue, events.dead", "dead.catalogue, dead.sales, events.dead",
			"retry.catalogue;", "retry.catalogue, retry.sales;",
		).Replace(text))
	})
	retries := strings.NewReplacer("sales-orders", "sales-retry", "events.orders", "retry.sales").Replace(subscription)
	edit("components/events/subscriptions.yaml", func(text string) string {
		letters := regexp.MustCompile(`(?s)---\napiVersion[^-]*?name: dead-letters-webhooks\n.*?\n  - dead-letters\n`).FindString(text)
		require.NotEmpty(t, letters, "the subscription to copy")
		return text + subscription + retries + strings.ReplaceAll(letters, "webhooks", "sales")
	})

	s := newStack(t, stack.Options{RunFile: filepath.Join(folder, "dapr.yaml"), Folder: folder})
	const price = 4500
	seller, buyer := s.signUp(t), s.signUp(t)
	sell := func() {
		ticket := seller.list(t, "Front row", price)
		buyer.pay(t, buyer.reserve(t, ticket.ID).ID, goodCard)
	}
	type counted struct{ Sold, Revenue int }
	sales := client.New(s.URL("sales"), client.Options{})
	defer sales.Close()
	count := func() (read counted) {
		response, err := sales.Do(t.Context(), client.Request{Method: http.MethodGet, Path: "/sales/" + seller.ID})
		if err == nil && response.Status == http.StatusOK {
			require.NoError(t, json.Unmarshal(response.Body, &read))
		}
		return read
	}
	sell()
	eventually(t, "the sale is counted", func() bool { return count() == counted{1, price} })

	// An event that is not what its type promises becomes a dead letter, and does not stop the others.
	events := s.stream(t)
	const completed = `{"specversion":"1.0","source":"/orders","type":"order.completed",`
	bad := []struct{ name, event, code string }{
		{"no-data", completed + `"id":"no-data","data":null}`, "undecodable"},
		{"no-seller", completed + `"id":"no-seller","data":{"sellerId":5}}`, "undecodable"},
		{"wrong-schema", completed + `"id":"wrong-schema","dataschema":5,"data":{}}`, "undecodable"},
		{"new-schema", completed + `"id":"new-schema","dataschema":"https://example.com/api/schemas/order.completed/9","data":{}}`, "undecodable"},
		{"of-tickets", `{"specversion":"1.0","id":"of-tickets","source":"/tickets","type":"ticket.created","data":{}}`, "foreign"},
		{"a list", `["a list"]`, "undecodable"},
		{"not JSON", `not JSON`, "undecodable"},
	}
	for _, one := range bad {
		events.publishOn(t, "events.orders", []byte(one.event))
	}
	for _, one := range bad {
		require.Equal(t, one.code, s.waitDeadLetter(t, "sales", one.name).Code, one.name)
	}

	s.kill(t, "sales")
	sell()
	s.start(t, "sales")
	eventually(t, "the sale made meanwhile is counted", func() bool { return count() == counted{2, 2 * price} })
}

// copyOfRunFile returns a folder with a copy of dapr.yaml and the components, and the programs.
func copyOfRunFile(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(folder, "components"), os.DirFS(filepath.Join(root(t), "components"))))
	text, err := os.ReadFile(filepath.Join(root(t), "dapr.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "dapr.yaml"), text, 0o600))
	for _, link := range []string{".build", "services"} {
		require.NoError(t, os.Symlink(filepath.Join(root(t), link), filepath.Join(folder, link)))
	}
	return folder
}
