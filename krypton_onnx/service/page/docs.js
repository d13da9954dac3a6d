"use strict";

/* No validator: it would be asked on another origin. */
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true });
