import { expect, test } from "vitest";
import { isAllowedAddress, parseEndpointUrl } from "../src/network.ts";
import { Problem } from "../src/problem.ts";

const refusedAddresses = [
  // This machine and this network.
  "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "::1", "::",
  // Private.
  "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fd12:3456::1", "fec0::1",
  // Link-local, with the addresses of clouds' metadata.
  "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "::ffff:168.63.129.16",
  // Carrier-grade NAT.
  "100.64.0.1", "100.127.255.255",
  // Multicast, broadcast, reserved, for tests and documentation.
  "224.0.0.1", "239.255.255.255", "255.255.255.255", "240.0.0.1", "ff02::1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.19.255.255",
  "198.51.100.1", "203.0.113.1", "2001:db8::1", "100::1", "2001:2::1", "3fff::1", "5f00::1",
  // IPv4 within IPv6: mapped, compatible, NAT64, 6to4, Teredo.
  "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a00:1", "::10.0.0.1", "::ffff:0:10.0.0.1",
  "64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "2002:a00:1::1", "2001:0:a00:1::1",
  // No addresses.
  "", "localhost", "256.1.1.1", "[::1]", "::g",
]; // prettier-ignore

test.each(refusedAddresses)("the address %s is refused", (address) => {
  expect(isAllowedAddress(address, false)).toBe(false);
});

const publicAddresses = [
  "8.8.8.8",
  "1.1.1.1",
  "172.15.255.255",
  "172.32.0.1",
  "100.63.255.255",
  "100.128.0.1",
  "2606:4700:4700::1111",
];

test.each(publicAddresses)("the address %s is allowed", (address) => {
  expect(isAllowedAddress(address, false)).toBe(true);
});

test.each(["::ffff:8.8.8.8", "[2606:4700:4700::1111]"])("the address %s is allowed in this form", (address) => {
  expect(isAllowedAddress(address, false)).toBe(true);
});

test("loopback addresses are allowed by a setting, and others are not", () => {
  for (const address of ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"]) {
    expect(isAllowedAddress(address, true), address).toBe(true);
  }
  for (const address of ["10.0.0.1", "169.254.169.254", "0.0.0.0", "::", "fe80::1"]) {
    expect(isAllowedAddress(address, true), address).toBe(false);
  }
});

function codeOf(url: string, allowLoopback = false): string | undefined {
  try {
    parseEndpointUrl(url, allowLoopback);
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(Problem);
    const { details } = error as Problem;
    expect(details[0]?.field).toBe("url");
    return details[0]?.code;
  }
}

test.each([
  ["https://tickets.example/hooks?a=b", undefined],
  ["https://tickets.example:8443/", undefined],
  ["https://8.8.8.8/", undefined],
  ["https://[2606:4700:4700::1111]/", undefined],
  ["http://tickets.example/", "url_not_allowed"],
  ["http://127.0.0.1:9/", "url_not_allowed"],
  ["ftp://tickets.example/", "url_not_allowed"],
  ["file:///etc/passwd", "url_not_allowed"],
  ["https://user@tickets.example/", "url_not_allowed"],
  ["https://user:password@tickets.example/", "url_not_allowed"],
  ["https://tickets.example:443/", undefined],
  ["https://tickets.example:1024/", undefined],
  ["https://tickets.example:65535/", undefined],
  ["https://tickets.example:1023/", "url_not_allowed"],
  ["https://tickets.example:80/", "url_not_allowed"],
  ["https://tickets.example:22/", "url_not_allowed"],
  ["https://tickets.example:25/", "url_not_allowed"],
  ["https://tickets.example./", undefined],
  ["https://intranet/", "url_not_allowed"],
  ["https://intranet./", "url_not_allowed"],
  ["https://.intranet/", "url_not_allowed"],
  ["https://localhost/", "url_not_allowed"],
  ["https://LOCALHOST./", "url_not_allowed"],
  ["https://a.localhost/", "url_not_allowed"],
  ["https://127.0.0.1/", "url_not_allowed"],
  ["https://127.1/", "url_not_allowed"],
  ["https://0x7f.1/", "url_not_allowed"],
  ["https://2130706433/", "url_not_allowed"],
  ["https://017700000001/", "url_not_allowed"],
  ["https://0xA9FEA9FE/", "url_not_allowed"],
  ["https://①②⑦.0.0.1/", "url_not_allowed"],
  ["https://[::ffff:10.0.0.1]/", "url_not_allowed"],
  ["https://[::]/", "url_not_allowed"],
  ["https://192.168.1.1:8443/", "url_not_allowed"],
  ["tickets.example", "invalid"],
  ["https://", "invalid"],
  ["https://a b/", "invalid"],
  ["https://tickets.example/" + "a".repeat(2048), "max"],
  ["https://tickets.example/" + "☃".repeat(300), "max"],
])("the URL %s has the code %s", (url, code) => {
  expect(codeOf(url)).toBe(code);
});

test.each([
  ["http://127.0.0.1:9000/", undefined],
  ["http://localhost:9000/", undefined],
  ["http://localhost:80/", undefined],
  ["https://intranet/", "url_not_allowed"],
  ["http://[::1]:9000/", undefined],
  ["https://localhost:9000/", undefined],
  ["http://tickets.example/", "url_not_allowed"],
  ["http://10.0.0.1/", "url_not_allowed"],
  ["https://10.0.0.1/", "url_not_allowed"],
])("with loopback allowed, the URL %s has the code %s", (url, code) => {
  expect(codeOf(url, true)).toBe(code);
});
