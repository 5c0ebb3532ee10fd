package event

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const examples = "../../../services/contracts/examples"

func TestValidate_AcceptsWhatTheServicesPublish(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, Validate(text), file)
	}
}

func TestValidate_FindsWhatNoSchemaDescribes(t *testing.T) {
	file, err := os.ReadFile(examples + "/order.created.1.json")
	require.NoError(t, err)
	for name, change := range map[string][2]string{
		"a further member":             {`"status":`, `"more": 1, "status":`},
		"a further member inside":      {`"price":`, `"more": 1, "price":`},
		"a further attribute":          {`"source":`, `"more": 1, "source":`},
		"a member less":                {`"sequence": 1,`, ``},
		"another value":                {`"created",`, `"begun",`},
		"a time with two digits":       {`Z"`, `0Z"`},
		"another type":                 {`"price": 7900`, `"price": "7900"`},
		"an id that is no UUID":        {`"userId": "`, `"userId": "x`},
		"a number that does not exist": {`order.created/1"`, `order.created/9"`},
		"the schema of another type":   {`order.created/1"`, `order.completed/1"`},
		"a schema elsewhere":           {`/api/schemas/`, `/schemas/`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(file), change[0], change[1], 1)
			require.NotEqual(t, string(file), changed)
			require.Error(t, Validate([]byte(changed)))
		})
	}
}

func TestNamesSchema_OnlyThisRelease(t *testing.T) {
	require.True(t, Event{DataSchema: "https://tickets.example.com/api/schemas/order.created/1"}.NamesSchema())
	require.False(t, Order{ID: "an-order", Version: 1}.Event("order.created").NamesSchema())
	require.False(t, Event{}.NamesSchema())
}
