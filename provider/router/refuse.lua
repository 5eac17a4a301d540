-- Answers requests that may not pass. Unlike HAProxy's own `http-request return` it takes the request's body first: an
-- answer before that resets an HTTP/2 stream, and clients show the reset in the answer's place.

local MOST, SECONDS, PIECE = 64 * 1024 * 1024, 30, 65536

local function take_body(applet)
    local left, deadline = MOST, core.now().sec + SECONDS
    while left > 0 and core.now().sec < deadline do
        local piece = applet:receive(math.min(left, PIECE))
        if piece == nil or #piece == 0 then return end
        left = left - #piece
    end
end

local function refuse(name, status, message, header)
    core.register_service(name, "http", function(applet)
        take_body(applet)
        -- In Azure's shape, and in that of the Open Inference Protocol.
        local member = applet.path:sub(1, 3) == "/v2" and "error" or "message"
        local body = string.format('{"%s":"%s"}', member, message)
        applet:set_status(status)
        applet:add_header("content-type", "application/json")
        applet:add_header("content-length", tostring(#body))
        applet:add_header("x-request-id", applet.f:uuid())
        if header then applet:add_header(header[1], header[2]) end
        applet:start_response()
        if applet.method ~= "HEAD" then applet:send(body) end
    end)
end

refuse("@NO_KEY@", 401, "@MISSING@", { "www-authenticate", "Bearer" })
refuse("@WRONG_KEY@", 403, "@WRONG@")
refuse("@NO_DEPLOYMENT@", 404, "@UNKNOWN@")
