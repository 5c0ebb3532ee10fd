/** The release of the REST API that this package was written for: `info.version` of its OpenAPI document. */
export const apiVersion = "1.0.0";
