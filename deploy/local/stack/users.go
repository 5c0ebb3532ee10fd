package stack

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// NATSUsers are lines of the configuration of NATS: a user for each app, with the rights from the scopes in a folder of components. In
// place of each password is a variable, for example NATS_PASSWORD_ORDERS.
func NATSUsers(components string) (string, error) {
	return brokerUsers(components, func(id, variable string, may rights) string {
		const password = "PASSWORD OF THE USER"
		return strings.Replace(natsUser(id, password, may), fmt.Sprintf("%q", password), "$NATS_"+variable, 1)
	})
}

// RedisUsers are the same for Redis, with variables of a shell, for example ${REDIS_PASSWORD_ORDERS}.
func RedisUsers(components string) (string, error) {
	return brokerUsers(components, func(id, variable string, may rights) string {
		return redisUser(id, "${REDIS_"+variable+"}", may)
	})
}

func brokerUsers(components string, user func(id, variable string, may rights) string) (string, error) {
	scopes, err := readScopes(components)
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for _, id := range slices.Sorted(maps.Keys(scopes)) {
		all.WriteString(user(id, "PASSWORD_"+strings.ToUpper(strings.ReplaceAll(id, "-", "_")), scopes[id]))
	}
	return all.String(), nil
}
